// SPDX-License-Identifier: GPL-2.0

//! The file of a VM in debugfs, `/sys/kernel/debug/kvm/<pid>-<fd>/gstage_page_tables`: what it is
//! called says what is in it. One file, not one more for each number: making and removing one costs
//! each VM some 5,000 instructions.
//!
//! Core KVM makes the directory and removes it with all that is in it, so the file is no
//! [`kernel::debugfs::File`], which owns its own. An open file holds a reference to the VM: the VM
//! is not destroyed while somebody reads, and a VM whose end has begun is not opened any more.
//!
//! Locks: `mmu_lock` for reading, and not for long, see [`dump`].
//!
//! Answers to `arch/arm64/kvm/ptdump.c`; the C arch layer has nothing of the kind.

use core::{
    mem::size_of,
    ptr::NonNull, //
};

use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    types::Opaque, //
};

use crate::{
    bindings,
    mem::{
        addr::Gfn,
        dump::{
            self,
            Line, //
        }, //
    },
    vm::Vm,
};

#[expect(improper_ctypes, reason = "no C code sees it through this declaration")]
extern "C" {
    /// Only its address is used.
    static __this_module: Opaque<bindings::module>;
}

/// `S_IRUSR`.
const OWNER_READS: u16 = 0o400;

/// A reference to a VM (`kvm->users_count`).
///
/// # Invariants
///
/// Points to a live VM, a reference to which belongs to this value.
struct VmRef(NonNull<bindings::kvm>);

impl VmRef {
    /// A reference to the VM that a file is about; none if its end has begun.
    ///
    /// # Safety
    ///
    /// `inode` is that of the file in a VM's directory.
    unsafe fn get(inode: *mut bindings::inode) -> Option<Self> {
        // SAFETY: an inode is valid while a file on it is being opened or closed.
        let vm = NonNull::new(unsafe { (*inode).i_private }.cast::<bindings::kvm>())?;
        // SAFETY: the VM's memory is there: it is freed only after its directory is gone, which
        // waits for those who are about to open a file in it.
        let live = unsafe { bindings::kvm_get_kvm_safe(vm.as_ptr()) };
        // INVARIANT: just taken.
        // Made only then: to drop it puts the reference.
        live.then(|| Self(vm))
    }

    /// The reference that an open file holds.
    ///
    /// # Safety
    ///
    /// The file was opened with a reference from [`VmRef::get`] that it was left.
    unsafe fn taken_back(inode: *mut bindings::inode) -> Option<Self> {
        // SAFETY: an inode is valid while a file on it is being closed.
        // INVARIANT: as the caller promises.
        NonNull::new(unsafe { (*inode).i_private }.cast()).map(Self)
    }

    /// The VM.
    fn vm(&self) -> &Vm {
        // SAFETY: by the invariant it is live; it went through `Vm::create` before it got a
        // directory.
        unsafe { Vm::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for VmRef {
    fn drop(&mut self) {
        // SAFETY: by the invariant the reference is ours.
        unsafe { bindings::kvm_put_kvm(self.0.as_ptr()) };
    }
}

/// Where a reader is. Position 0 in the file is the head; any other is one more than the frame from
/// which on the next line is to be looked for: so lines stay where they are while others come and
/// go.
struct Cursor {
    vm: VmRef,
    line: Line,
}

impl Cursor {
    /// Goes to the line at `position`, or to the first one after it.
    fn seek(&mut self, position: u64) -> *mut c_void {
        let vm = self.vm.vm();
        let line = match position.checked_sub(1) {
            None => Ok(Some(dump::head(vm))),
            Some(frame) => dump::next_run(vm, Gfn::new(frame)).map(|run| run.map(Line::Run)),
        };
        match line {
            Ok(Some(line)) => {
                self.line = line;
                core::ptr::from_mut(self).cast()
            }
            Ok(None) => core::ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// The position of the next line.
    fn next(&self) -> u64 {
        match self.line {
            Line::Head(_) => 1,
            Line::Run(run) => run.frames.end().get().saturating_add(1),
        }
    }
}

/// The operations of the file. Constant: shared by all VMs.
#[repr(transparent)]
struct FileOps(bindings::file_operations);

// SAFETY: nobody writes to it; what it points to are functions and this module.
unsafe impl Sync for FileOps {}

static FILE_OPS: FileOps = FileOps(bindings::file_operations {
    owner: (&raw const __this_module).cast_mut().cast(),
    open: Some(open),
    read: Some(bindings::seq_read),
    llseek: Some(bindings::seq_lseek),
    release: Some(release),
    ..pin_init::zeroed()
});

static SEQ_OPS: bindings::seq_operations = bindings::seq_operations {
    start: Some(start),
    stop: Some(stop),
    next: Some(next),
    show: Some(show),
};

/// # Safety
///
/// The VFS's call for the file in a VM's directory.
unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    from_result(|| {
        let size = size_of::<Cursor>() as c_int;
        // SAFETY: the file is being opened.
        let cursor = unsafe { bindings::__seq_open_private(file, &SEQ_OPS, size) };
        let cursor = NonNull::new(cursor.cast::<Cursor>()).ok_or(ENOMEM)?;
        // Last, because a reference must not be dropped here: if it were the VM's last, the end of
        // the VM would wait for this function to be through with the file.
        // SAFETY: our file.
        let Some(vm) = (unsafe { VmRef::get(inode) }) else {
            // SAFETY: opened above; the cursor has nothing to drop yet.
            unsafe { bindings::seq_release_private(inode, file) };
            return Err(ENOENT);
        };
        let line = dump::head(vm.vm());
        // SAFETY: room for it was just allocated, of the alignment that all of `kmalloc` has.
        unsafe { cursor.write(Cursor { vm, line }) };
        Ok(0)
    })
}

/// # Safety
///
/// The VFS's call for a file that [`open`] opened.
unsafe extern "C" fn release(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: the cursor, which is freed without being dropped, has a reference; dropped below.
    let _vm = unsafe { VmRef::taken_back(inode) };
    // SAFETY: opened by `__seq_open_private`.
    unsafe { bindings::seq_release_private(inode, file) }
}

/// The cursor of an open file.
///
/// # Safety
///
/// `seq` is that of a file that [`open`] opened, whose lock the caller holds, as all of the
/// `seq_file` code's calls do.
unsafe fn cursor<'s>(seq: *mut bindings::seq_file) -> &'s mut Cursor {
    // SAFETY: `open` put it there.
    unsafe { &mut *(*seq).private.cast() }
}

/// # Safety
///
/// The `seq_file` code's call.
unsafe extern "C" fn start(seq: *mut bindings::seq_file, at: *mut bindings::loff_t) -> *mut c_void {
    // SAFETY: one of our files, locked.
    let cursor = unsafe { cursor(seq) };
    // SAFETY: the position is the caller's own.
    cursor.seek(unsafe { *at } as u64)
}

/// # Safety
///
/// The `seq_file` code's call.
unsafe extern "C" fn next(
    seq: *mut bindings::seq_file,
    _line: *mut c_void,
    at: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: one of our files, locked.
    let cursor = unsafe { cursor(seq) };
    let position = cursor.next();
    // SAFETY: the position is the caller's own.
    unsafe { *at = position as bindings::loff_t };
    cursor.seek(position)
}

/// # Safety
///
/// The `seq_file` code's call.
unsafe extern "C" fn stop(_seq: *mut bindings::seq_file, _line: *mut c_void) {}

/// # Safety
///
/// The `seq_file` code's call.
unsafe extern "C" fn show(seq: *mut bindings::seq_file, _line: *mut c_void) -> c_int {
    // SAFETY: one of our files, locked.
    let cursor = unsafe { cursor(seq) };
    // SAFETY: valid, and ours for the call.
    let seq = unsafe { SeqFile::from_raw(seq) };
    seq_print!(seq, "{}\n", cursor.line);
    0
}

door! {
    /// Puts our file into the directory of a VM, which core KVM has just made.
    ///
    /// # Safety
    ///
    /// `kvm` is live.
    fn kvm_arch_create_vm_debugfs(kvm: *mut bindings::kvm) {
        // SAFETY: the VM is live for the call.
        let directory = unsafe { (*kvm).debugfs_dentry };
        // SAFETY: the directory is there, and the VM lives until it is gone; `FILE_OPS` takes the
        // VM for the inode's private pointer. Debugfs says nothing that would be worth hearing.
        unsafe {
            bindings::debugfs_create_file_full(
                c"gstage_page_tables".as_char_ptr(),
                OWNER_READS,
                directory,
                kvm.cast(),
                core::ptr::null(),
                &FILE_OPS.0,
            )
        };
    }
}
