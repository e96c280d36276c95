package main

import (
	"encoding/json"
	"fmt"
	"os"

	"example.com/plimsoll/lib"
	"github.com/BurntSushi/toml"
	"github.com/gin-gonic/gin"
	gofrs "github.com/gofrs/uuid"
	"github.com/google/uuid"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pkg/errors"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/exp/constraints"
	"golang.org/x/sync/errgroup"
	yaml2 "gopkg.in/yaml.v2"
	"gopkg.in/yaml.v3"
)

func largest[T constraints.Ordered](a, b T) T {
	if a > b {
		return a
	}
	return b
}

func main() {
	root := &cobra.Command{Use: "app", RunE: func(*cobra.Command, []string) error {
		var g errgroup.Group
		g.Go(func() error { fmt.Println(uuid.NewString(), gofrs.Nil, lib.Name()); return nil })
		b, _ := yaml.Marshal(map[string]int{"a": 1})
		c, _ := yaml2.Marshal(map[string]int{"a": 1})
		j, _ := json.Marshal(v1.Manifest{})
		fmt.Println(string(b), string(c), string(j), largest(1, 2))
		_ = toml.Unmarshal([]byte("a=1"), &map[string]any{})
		if len(os.Args) > 5 {
			return gin.Default().Run()
		}
		return errors.Wrap(g.Wait(), "x")
	}}
	if err := root.Execute(); err != nil {
		logrus.Fatal(err)
	}
}
