// A folder that is as slow as a shared file system of the cloud: every operation waits as one over the network does, and all bytes share a rate.
//
// It is mounted until its standard input ends or it is told to end by a signal. It says "mounted" when it is.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const largest = 1 << 20 // bytes of a read or write, as a mount of EFS has them

// slow makes the operations of a file system wait. What it does not name is asked for by nobody or costs the client nothing.
type slow struct {
	fuse.RawFileSystem
	pace   *pace
	behind *behind
}

func main() {
	folder := flag.String("folder", "", "where the files are")
	mount := flag.String("mount", "", "where they are seen")
	read := flag.Duration("read", 0, "wait of an operation that changes nothing")
	write := flag.Duration("write", 0, "wait of an operation that changes something")
	total := flag.Float64("total", 0, "bytes a second, reads and writes together")
	ahead := flag.Int("ahead", 15000, "KiB that the kernel reads ahead")
	flag.Parse()
	root, err := fs.NewLoopbackRoot(*folder)
	if err != nil {
		log.Fatal(err)
	}
	moment := time.Second
	// Nobody else changes the folder. A client of NFS keeps attributes for 3 s or longer, and asks again at each open.
	below := fs.NewNodeFS(root, &fs.Options{EntryTimeout: &moment, AttrTimeout: &moment})
	slowed := &slow{below, &pace{read: *read, write: *write, rate: *total}, &behind{files: map[uint64]time.Time{}}}
	server, err := fuse.NewServer(slowed, *mount, &fuse.MountOptions{
		AllowOther:    os.Getuid() == 0,
		MaxBackground: 64,
		MaxWrite:      largest,
		MaxReadAhead:  largest,
		DirectMount:   true,
		DisableXAttrs: true,
		// Reads of 1 MiB with their heads are longer than a pipe may be.
		DisableSplice: true,
		// Nobody reads what is said after "mounted": whoever went on saying something would wait for ever.
		Logger: log.New(io.Discard, "", 0),
		FsName: "efs-emulated",
		Name:   "efs-emulated",
		// Otherwise the kernel reads the files beneath by itself, and nothing is slow.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ended <- syscall.SIGTERM
	}()
	go func() {
		if err := server.WaitMount(); err != nil {
			log.Fatal(err)
		}
		// Only root may; without, one reader gets less than the rate.
		_ = readAhead(*mount, *ahead)
		fmt.Println("mounted")
	}()
	go func() {
		<-ended
		for server.Unmount() != nil {
			time.Sleep(20 * time.Millisecond) // somebody has a file open yet
		}
	}()
	server.Serve()
}

// readAhead sets how far the kernel reads ahead, as the guide to EFS advises.
func readAhead(mount string, ahead int) error {
	var seen syscall.Stat_t
	if err := syscall.Stat(mount, &seen); err != nil {
		return err
	}
	device := fmt.Sprintf("%d:%d", seen.Dev>>8&0xfff, seen.Dev&0xff|seen.Dev>>12&^0xff)
	return os.WriteFile(filepath.Join("/sys/class/bdi", device, "read_ahead_kb"), fmt.Appendln(nil, ahead), 0o644)
}

func (slow *slow) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	slow.pace.asks()
	return slow.RawFileSystem.Lookup(cancel, header, name, out)
}

func (slow *slow) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	slow.pace.asks()
	return slow.RawFileSystem.GetAttr(cancel, in, out)
}

func (slow *slow) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	slow.pace.asks()
	status := slow.RawFileSystem.Open(cancel, in, out)
	// What was read before stays while its attributes are the same: the kernel compares them.
	out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	return status
}

func (slow *slow) Read(cancel <-chan struct{}, in *fuse.ReadIn, buffer []byte) (fuse.ReadResult, fuse.Status) {
	since := time.Now()
	result, status := slow.RawFileSystem.Read(cancel, in, buffer)
	if status.Ok() {
		slow.pace.reads(result.Size(), since)
	}
	return result, status
}

func (slow *slow) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	slow.pace.asks()
	return slow.RawFileSystem.OpenDir(cancel, in, out)
}

func (slow *slow) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	written, status := slow.RawFileSystem.Write(cancel, in, data)
	if status.Ok() {
		slow.behind.wrote(in.NodeId, int(written), slow.pace)
	}
	return written, status
}

// Writev is what the kernel's writes come by; Write is not used then.
func (slow *slow) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	written, status := slow.RawFileSystem.Writev(cancel, in, data)
	if status.Ok() {
		slow.behind.wrote(in.NodeId, int(written), slow.pace)
	}
	return written, status
}

func (slow *slow) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	slow.behind.flushed(in.NodeId)
	return slow.RawFileSystem.Flush(cancel, in)
}

func (slow *slow) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	slow.behind.flushed(in.NodeId)
	return slow.RawFileSystem.Fsync(cancel, in)
}

func (slow *slow) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.Create(cancel, in, name, out)
}

func (slow *slow) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.SetAttr(cancel, in, out)
}

func (slow *slow) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.Mkdir(cancel, in, name, out)
}

func (slow *slow) Unlink(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.Unlink(cancel, header, name)
}

func (slow *slow) Rmdir(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.Rmdir(cancel, header, name)
}

func (slow *slow) Rename(cancel <-chan struct{}, in *fuse.RenameIn, before, after string) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.Rename(cancel, in, before, after)
}

func (slow *slow) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.Link(cancel, in, name, out)
}

func (slow *slow) Symlink(cancel <-chan struct{}, header *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	slow.pace.changes()
	return slow.RawFileSystem.Symlink(cancel, header, target, name, out)
}

// CopyFileRange is what EFS does not have: the client copies by reads and writes.
func (slow *slow) CopyFileRange(<-chan struct{}, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}
