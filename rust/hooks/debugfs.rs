// SPDX-License-Identifier: GPL-2.0

//! The file of a VM in debugfs, `/sys/kernel/debug/kvm/<pid>-<fd>/gstage_page_tables`: the G-stage
//! page table as text. There is only one file, because to make and remove a file costs each VM some
//! 5,000 instructions.
//!
//! Core KVM makes the directory and removes it with all that is in it, so the file is no
//! [`kernel::debugfs::File`], which would own its entry. An open file holds a reference to the VM:
//! core KVM does not destroy the VM while a process has the file open, and [`open`] fails if the
//! VM's end has begun.
//!
//! Locks: `mmu_lock` for reading, and not for long, see [`ptdump`].
//!
//! Answers to `arch/arm64/kvm/ptdump.c`; the C arch layer has no counterpart.

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
    bindings::{
        self,
        check_prototype, //
    },
    kvm_core::{
        addr::Gfn,
        object::Vm, //
    },
    mmu::ptdump::{
        self,
        Line, //
    }, //
};

#[expect(improper_ctypes, reason = "no C code sees it through this declaration")]
extern "C" {
    /// The module's own structure; only its address is used.
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
    /// Takes a reference to the VM that a file is about; [`None`] if its end has begun.
    ///
    /// # Safety
    ///
    /// `inode` is the inode of the file in a VM's directory, and the VFS is opening the file.
    unsafe fn get(inode: *mut bindings::inode) -> Option<Self> {
        // SAFETY: The VFS is opening the file, so `inode` is valid.
        let vm = NonNull::new(unsafe { (*inode).i_private }.cast::<bindings::kvm>())?;
        // SAFETY: `i_private` is the VM that `kvm_arch_create_vm_debugfs()` stored. Core KVM frees
        // the VM's memory only after it has removed the directory, and the removal waits for calls
        // of `open`.
        let live = unsafe { bindings::kvm_get_kvm_safe(vm.as_ptr()) };
        // INVARIANT: If `live`, `kvm_get_kvm_safe()` has just taken the reference that the value
        // owns. Otherwise no value may be made: its drop would put a reference.
        live.then(|| Self(vm))
    }

    /// Takes back the reference that an open file holds.
    ///
    /// # Safety
    ///
    /// The VFS is closing the file of `inode`, which was opened with a reference from
    /// [`VmRef::get`]. The reference was left to the file, and the caller takes it back once.
    unsafe fn taken_back(inode: *mut bindings::inode) -> Option<Self> {
        // SAFETY: The VFS is closing the file, so `inode` is valid.
        // INVARIANT: The caller takes back the reference that `VmRef::get` took and that was left
        // to the file, so the VM is live, and the reference belongs to the new value.
        NonNull::new(unsafe { (*inode).i_private }.cast()).map(Self)
    }

    /// Returns the VM.
    fn vm(&self) -> &Vm {
        // SAFETY: By the type's invariant the VM is live. It went through `Vm::create` before core
        // KVM made its directory, and keeps its state as long as there are references to it.
        unsafe { Vm::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for VmRef {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant the reference belongs to this value, which is used no
        // more.
        unsafe { bindings::kvm_put_kvm(self.0.as_ptr()) };
    }
}

/// Where a reader is. Position 0 in the file is the head; any other is one more than the frame from
/// which on the next line is to be looked for: so a line keeps its position while other lines
/// change.
struct Cursor {
    vm: VmRef,
    line: Line,
}

impl Cursor {
    /// Goes to the line at `position`, or to the first one after it.
    fn seek(&mut self, position: u64) -> *mut c_void {
        let vm = self.vm.vm();
        let line = match position.checked_sub(1) {
            None => Ok(Some(ptdump::head(vm))),
            Some(frame) => ptdump::next_run(vm, Gfn::new(frame)).map(|run| run.map(Line::Run)),
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

    /// Returns the position of the next line.
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

// SAFETY: No code writes to a `FileOps`, and it points only to functions and to this module, which
// any thread may use.
unsafe impl Sync for FileOps {}

/// The operations of the file, for the VFS.
static FILE_OPS: FileOps = FileOps(bindings::file_operations {
    owner: (&raw const __this_module).cast_mut().cast(),
    open: Some(open),
    read: Some(bindings::seq_read),
    llseek: Some(bindings::seq_lseek),
    release: Some(release),
    ..pin_init::zeroed()
});

/// The operations of the file, for the `seq_file` code.
static SEQ_OPS: bindings::seq_operations = bindings::seq_operations {
    start: Some(start),
    stop: Some(stop),
    next: Some(next),
    show: Some(show),
};

/// Opens the file: takes a reference to the VM, and a cursor.
///
/// # Safety
///
/// The VFS calls this, by way of debugfs, to open the file in a VM's directory.
unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    from_result(|| {
        let size = size_of::<Cursor>() as c_int;
        // SAFETY: The VFS is opening `file`, which has no private data yet, and `SEQ_OPS` is
        // static.
        let cursor = unsafe { bindings::__seq_open_private(file, &SEQ_OPS, size) };
        let cursor = NonNull::new(cursor.cast::<Cursor>()).ok_or(ENOMEM)?;
        // This comes last, because a reference must not be dropped here: if it were the VM's last,
        // the end of the VM would wait for this function to be through with the file.
        // SAFETY: `inode` is the inode of the file in a VM's directory, and the VFS is opening the
        // file.
        let Some(vm) = (unsafe { VmRef::get(inode) }) else {
            // SAFETY: `__seq_open_private()` opened `file` above, and the zeroed cursor has nothing
            // to drop yet.
            unsafe { bindings::seq_release_private(inode, file) };
            return Err(ENOENT);
        };
        let line = ptdump::head(vm.vm());
        // SAFETY: `__seq_open_private()` has just allocated room for a `Cursor`, with the alignment
        // that all of `kmalloc()` has.
        unsafe { cursor.write(Cursor { vm, line }) };
        Ok(0)
    })
}

/// Closes the file: gives the cursor and the reference back.
///
/// # Safety
///
/// The VFS calls this once for a file that [`open`] opened.
unsafe extern "C" fn release(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: The VFS is closing a file that `open` opened. `open` left a reference to the cursor,
    // which is freed below without being dropped, so `_vm` takes the reference back once.
    let _vm = unsafe { VmRef::taken_back(inode) };
    // SAFETY: `open` opened `file` with `__seq_open_private()`, and no code uses the cursor any
    // more.
    unsafe { bindings::seq_release_private(inode, file) }
}

/// Returns the cursor of an open file.
///
/// # Safety
///
/// `seq` belongs to a file that [`open`] opened. The caller holds its lock, as the `seq_file` code
/// does for all of its calls, and makes no second reference while the result lives.
unsafe fn cursor<'s>(seq: *mut bindings::seq_file) -> &'s mut Cursor {
    // SAFETY: `open` put a pointer to an initialised `Cursor` there, and the lock that the caller
    // holds keeps other threads away from it.
    unsafe { &mut *(*seq).private.cast() }
}

/// Seeks the line at the reader's position.
///
/// # Safety
///
/// The `seq_file` code calls this for a file that [`open`] opened, and holds the file's lock. `at`
/// points to a position of the `seq_file` code.
unsafe extern "C" fn start(seq: *mut bindings::seq_file, at: *mut bindings::loff_t) -> *mut c_void {
    // SAFETY: `seq` belongs to a file that `open` opened, the `seq_file` code holds its lock, and
    // this is the only reference to the cursor during the call.
    let cursor = unsafe { cursor(seq) };
    // SAFETY: `at` points to a position of the `seq_file` code, which no other thread uses during
    // the call.
    cursor.seek(unsafe { *at } as u64)
}

/// Seeks the next line.
///
/// # Safety
///
/// The `seq_file` code calls this for a file that [`open`] opened, and holds the file's lock. `at`
/// points to a position of the `seq_file` code.
unsafe extern "C" fn next(
    seq: *mut bindings::seq_file,
    _line: *mut c_void,
    at: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: `seq` belongs to a file that `open` opened, the `seq_file` code holds its lock, and
    // this is the only reference to the cursor during the call.
    let cursor = unsafe { cursor(seq) };
    let position = cursor.next();
    // SAFETY: `at` points to a position of the `seq_file` code, which no other thread uses during
    // the call.
    unsafe { *at = position as bindings::loff_t };
    cursor.seek(position)
}

/// Does nothing: no lock is held from one line to the next.
///
/// # Safety
///
/// The `seq_file` code calls this. The function uses none of its arguments, so any will do.
unsafe extern "C" fn stop(_seq: *mut bindings::seq_file, _line: *mut c_void) {}

/// Prints the line at the cursor.
///
/// # Safety
///
/// The `seq_file` code calls this for a file that [`open`] opened, and holds the file's lock.
unsafe extern "C" fn show(seq: *mut bindings::seq_file, _line: *mut c_void) -> c_int {
    // SAFETY: `seq` belongs to a file that `open` opened, the `seq_file` code holds its lock, and
    // this is the only reference to the cursor during the call.
    let cursor = unsafe { cursor(seq) };
    // SAFETY: The `seq_file` code passes a valid `seq`, and holds its lock, so no other thread uses
    // `seq` during the call.
    let seq = unsafe { SeqFile::from_raw(seq) };
    seq_print!(seq, "{}\n", cursor.line);
    0
}

/// Creates the file in the directory of a VM, which core KVM has just made.
///
/// # Safety
///
/// Core KVM passes a live VM, and `debugfs_dentry` is the directory that it has just made.
#[no_mangle]
unsafe extern "C" fn kvm_arch_create_vm_debugfs(kvm: *mut bindings::kvm) {
    // SAFETY: Core KVM calls this with a live VM.
    let directory = unsafe { (*kvm).debugfs_dentry };
    // SAFETY: Core KVM has just made the directory, and the VM lives until core KVM has removed
    // it. `FILE_OPS` takes the VM from the inode's private pointer. The code ignores the
    // result: without the file the VM works as well.
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
check_prototype!(kvm_arch_create_vm_debugfs);
