package dbtest

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent asks the kernel to send a child the signal when we end, even by SIGKILL.
func dieWithParent(attr *syscall.SysProcAttr, death syscall.Signal) { attr.Pdeathsig = death }

// removeSharedMemory removes a System V segment that nobody is attached to.
func removeSharedMemory(id int) error {
	var segment unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &segment); err != nil || segment.Nattch > 0 {
		return nil // gone already, or not ours
	}
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err
}

// MemoryDir is a folder in memory with room for the servers of a few tests; empty if there is none. A server makes about a
// thousand files, which on some disks takes longer than the test.
func MemoryDir() string {
	const dir, tmpfs, room = "/dev/shm", 0x01021994, 4 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || int64(fs.Type) != tmpfs || int64(fs.Bavail)*int64(fs.Bsize) < room {
		return ""
	}
	return dir
}

// copyData has the kernel copy what is between the holes of a file. One that gets shorter meanwhile ends there.
func copyData(out, in *os.File) error {
	about, err := in.Stat()
	if err != nil {
		return err
	}
	size := about.Size()
	for at := int64(0); at < size; {
		at, err = unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		hole, err := unix.Seek(int(in.Fd()), at, unix.SEEK_HOLE)
		if err == nil {
			_, err = out.Seek(at, io.SeekStart)
		}
		for err == nil && at < min(hole, size) {
			var n int
			if n, err = unix.Sendfile(int(out.Fd()), int(in.Fd()), &at, int(min(hole, size)-at)); n == 0 && err == nil {
				size = at
			}
		}
		if err != nil {
			return os.NewSyscallError("sendfile", err)
		}
	}
	return out.Truncate(size)
}
