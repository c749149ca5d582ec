package executor

import (
	"os"

	"golang.org/x/sys/unix"
)

// topDir is the attribute T of a directory (chattr(1)): what is in it belongs
// not together, so ext4 places each subdirectory somewhere else on the disk.
const topDir = 0x00020000

// SpreadAreas makes the directory of the areas, and has an ext4 file system
// place each area by itself. Areas come and go all the time, and one without a
// journal looks through all the inodes that were removed in the last minutes
// near where a file is to be made, which costs the more the more of them lie in one
// place (decision 92). Other file systems are asked in vain.
func SpreadAreas(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	d, err := os.Open(root)
	if err != nil {
		return err
	}
	defer d.Close()
	if flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
	return nil
}
