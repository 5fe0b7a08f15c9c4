// SPDX-License-Identifier: GPL-2.0

//! Memory for tables that notices leaks, double frees, use after free, and, under loom, tables
//! that are reached without having been published.

use std::{
    alloc::{
        alloc,
        handle_alloc_error, //
        Layout,
    },
    collections::BTreeMap,
    ptr::NonNull,
    sync::Mutex, //
};

use crate::{
    gstage::{
        Counted,
        Flushed,
        FormerTable,
        Mode,
        Root,
        RootTable,
        Table,
        TableMemory,
        TablePage,
        TableSource, //
    },
    kernel_ext::atomic::AtomicU64,
    kvm_core::addr::Pfn, //
};

/// Has `flush` stand for a flush: no hart remembers anything in a test.
pub(super) fn flushing<T>(flush: impl FnOnce(T)) -> impl FnOnce(T) -> Flushed {
    |scope| {
        flush(scope);
        // SAFETY: No hart uses the tree of a test.
        unsafe { Flushed::new() }
    }
}

/// All tables of a test. A table's frame number is its position.
pub(super) struct Arena {
    pages: Mutex<Vec<Page>>,
    counts: Mutex<BTreeMap<Counted, i64>>,
}

struct Page {
    what: What,
    live: bool,
    #[cfg(loom)]
    contents: std::sync::Arc<Contents>,
}

enum What {
    Table(NonNull<Table>),
    Root(NonNull<RootTable>),
}

// SAFETY: the pointers are to tables that the arena owns and that are only accessed atomically.
unsafe impl Send for Page {}

/// Stands for what is in a table when it is new: written once, read whenever the table is reached.
#[cfg(loom)]
struct Contents(loom::cell::UnsafeCell<()>);

#[cfg(loom)]
// SAFETY: there is nothing in it; that accesses are ordered is what loom shall find out.
unsafe impl Sync for Contents {}

/// The first table's frame; not 0, so that a lost frame number is noticed.
const FIRST: u64 = 0x100;

/// A box's worth of `T`, a table, of empty entries.
fn zeroed<T>() -> NonNull<T> {
    let layout = Layout::new::<T>();
    // SAFETY: tables are not of size 0.
    let Some(table) = NonNull::new(unsafe { alloc(layout) }) else {
        handle_alloc_error(layout);
    };
    let words = table.cast::<AtomicU64>();
    for index in 0..layout.size() / size_of::<AtomicU64>() {
        // SAFETY: a table is an array of atomics, of which the allocation has room for as many.
        unsafe { words.add(index).write(AtomicU64::new(0)) };
    }
    table.cast()
}

impl Arena {
    pub(super) fn new() -> Self {
        Arena {
            pages: Mutex::new(Vec::new()),
            counts: Mutex::new(BTreeMap::new()),
        }
    }

    /// How many there are of what, as the engine told; what there is none of is left out.
    pub(super) fn counts(&self) -> BTreeMap<Counted, i64> {
        let mut counts = self.counts.lock().unwrap().clone();
        counts.retain(|_, count| *count != 0);
        counts
    }

    fn add(&self, what: What) -> Pfn {
        let mut pages = self.pages.lock().unwrap();
        pages.push(Page {
            what,
            live: true,
            #[cfg(loom)]
            contents: {
                let contents = Contents(loom::cell::UnsafeCell::new(()));
                contents.0.with_mut(|_| ());
                std::sync::Arc::new(contents)
            },
        });
        Pfn::new(FIRST + pages.len() as u64 - 1)
    }

    /// A root with its page.
    pub(super) fn root(&self, mode: Mode) -> Root<&Arena> {
        let pfn = self.add(What::Root(zeroed()));
        // SAFETY: the page is new, empty, and reached below.
        unsafe { Root::new(self, mode, pfn) }
    }

    /// Where `count` tables can be taken from.
    pub(super) fn source(&self, count: usize) -> Source<'_> {
        Source { arena: self, count }
    }

    /// Takes a table back that nothing points to any more.
    pub(super) fn free(&self, table: FormerTable) {
        let pfn = table.into_pfn();
        let mut pages = self.pages.lock().unwrap();
        let page = &mut pages[(pfn.get() - FIRST) as usize];
        assert!(page.live, "double free of {pfn:?}");
        page.live = false;
    }

    /// Number of tables, roots not counted, that were handed out and not freed.
    pub(super) fn live(&self) -> usize {
        let pages = self.pages.lock().unwrap();
        pages
            .iter()
            .filter(|page| page.live && matches!(page.what, What::Table(_)))
            .count()
    }

    /// Notices use after free and, under loom, use before publication.
    fn look_at<T>(&self, pfn: Pfn, pick: impl Fn(&What) -> Option<NonNull<T>>) -> NonNull<T> {
        let pages = self.pages.lock().unwrap();
        let page = &pages[(pfn.get() - FIRST) as usize];
        assert!(page.live, "use of {pfn:?} after it was freed");
        let found = pick(&page.what).expect("a frame of the other kind");
        #[cfg(loom)]
        {
            let contents = page.contents.clone();
            drop(pages);
            contents.0.with(|_| ());
        }
        found
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for page in self.pages.get_mut().unwrap().drain(..) {
            match page.what {
                // SAFETY: a box's worth, initialised by `zeroed`, and nobody else has it any more.
                What::Table(table) => drop(unsafe { Box::from_raw(table.as_ptr()) }),
                // SAFETY: a box's worth, initialised by `zeroed`, and nobody else has it any more.
                What::Root(root) => drop(unsafe { Box::from_raw(root.as_ptr()) }),
            }
        }
    }
}

// SAFETY: frames lead to what `add` put there, which stays until the arena goes.
unsafe impl TableMemory for &Arena {
    fn table(self, pfn: Pfn) -> NonNull<Table> {
        self.look_at(pfn, |what| match what {
            What::Table(table) => Some(*table),
            What::Root(_) => None,
        })
    }

    fn root(self, pfn: Pfn) -> NonNull<RootTable> {
        self.look_at(pfn, |what| match what {
            What::Root(root) => Some(*root),
            What::Table(_) => None,
        })
    }

    fn count(self, what: Counted, by: i64) {
        *self.counts.lock().unwrap().entry(what).or_default() += by;
    }
}

/// A limited supply of tables.
pub(super) struct Source<'a> {
    arena: &'a Arena,
    pub(super) count: usize,
}

impl TableSource for Source<'_> {
    fn take(&mut self) -> Option<TablePage> {
        self.count = self.count.checked_sub(1)?;
        let pfn = self.arena.add(What::Table(zeroed()));
        // SAFETY: the page is new, empty, and reached by the arena.
        unsafe { TablePage::new(pfn) }
    }

    fn give_back(&mut self, table: FormerTable) {
        self.arena.free(table);
    }
}
