//go:build !linux

package localpg

// memoryDir is for Linux alone.
func memoryDir() string { return "" }
