package executor

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Where the file system is ext4 the directory of areas has the attribute that
// places each of them by itself; anywhere it is there.
func TestSpreadAreas(t *testing.T) {
	root := filepath.Join(t.TempDir(), "work")
	for range 2 { // a second start finds it done
		if err := SpreadAreas(root); err != nil {
			t.Fatal(err)
		}
	}
	d, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if st.Type == unix.EXT4_SUPER_MAGIC && (err != nil || flags&topDir == 0) {
		t.Errorf("the attributes are %x, %v", flags, err)
	}
	if _, err := OpenArea(root, "run-1"); err != nil {
		t.Error(err)
	}
}
