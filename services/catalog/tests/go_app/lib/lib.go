// Package lib is replaced by this directory.
package lib

//go:noinline
func Name() string { return "lib" }
