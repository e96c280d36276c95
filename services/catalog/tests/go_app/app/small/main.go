// Small is quick to build in the ways that compile everything anew.
package main

import (
	"fmt"
	"os/user"

	"example.com/plimsoll/lib"
	"github.com/google/uuid"
	"golang.org/x/exp/constraints"
)

func largest[T constraints.Ordered](a, b T) T {
	if a > b {
		return a
	}
	return b
}

func main() {
	_, err := user.Current()
	fmt.Println(uuid.NewString(), lib.Name(), largest(1, 2), err)
}
