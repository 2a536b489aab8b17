//go:build !linux

package dbtest

import (
	"io"
	"os"
	"syscall"
)

// Find finds no server on this platform, so that these do nothing.

func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

func removeSharedMemory(int) error { return nil }

func MemoryDir() string { return "" }

func copyData(out, in *os.File) error {
	_, err := io.Copy(out, in)
	return err
}
