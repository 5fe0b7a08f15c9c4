// SPDX-License-Identifier: GPL-2.0

//! Table pages, allocated before a lock is taken. Answers to the uses of
//! `struct kvm_mmu_memory_cache` in `mmu.c`.
//!
//! No locks: each cache has one owner. [`TableCache::top_up`] may sleep, the rest does not.

use core::cell::UnsafeCell;

use kernel::prelude::*;

use crate::{
    gstage::{
        FormerTable,
        TablePage,
        TableSource, //
    },
    kvm_core::object::Vcpu,
    mmu::table_memory::{
        alloc_table,
        free_table, //
    },
    vcpu::token::Loaded, //
};

/// How many tables a cache has room for.
const CAPACITY: usize = 16;

/// The number of tables that one fault can give back: one for each level below the root's.
const RETURNS: usize = 4;

/// Zeroed pages for tables. Dropping the cache frees them. C: `struct kvm_mmu_memory_cache`.
pub(crate) struct TableCache {
    /// The tables; the first `filled` places have one each.
    tables: [Option<TablePage>; CAPACITY],
    /// The number of tables, which are in front.
    filled: usize,
    /// The tables that were given back.
    returned: [Option<FormerTable>; RETURNS],
}

impl TableCache {
    /// The number of tables that the cache has room for.
    pub(crate) const CAPACITY: usize = CAPACITY;

    /// Returns a cache without tables.
    pub(crate) fn new() -> Self {
        Self {
            tables: [const { None }; CAPACITY],
            filled: 0,
            returned: [const { None }; RETURNS],
        }
    }

    /// Fills the cache up to `least` tables, or as many as there is room for. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; tables that were allocated until then stay.
    #[inline]
    pub(crate) fn top_up(&mut self, least: usize) -> Result {
        if self.filled >= least {
            return Ok(());
        }
        self.fill(least)
    }

    /// Frees what came back, and allocates tables until there are `least`.
    fn fill(&mut self, least: usize) -> Result {
        self.free_returned();
        for place in self.tables.iter_mut().take(least).skip(self.filled) {
            *place = Some(alloc_table()?);
            self.filled += 1;
        }
        Ok(())
    }

    /// Frees the tables that came back.
    fn free_returned(&mut self) {
        self.returned
            .iter_mut()
            .filter_map(Option::take)
            .for_each(free_table);
    }
}

impl TableSource for TableCache {
    fn take(&mut self) -> Option<TablePage> {
        let last = self.filled.checked_sub(1)?;
        self.filled = last;
        self.tables.get_mut(last)?.take()
    }

    /// Keeps the table until the next [`TableCache::top_up`] that allocates: the caller may have
    /// interrupts off, where to free a page may have to sleep on a kernel with `PREEMPT_RT`.
    fn give_back(&mut self, table: FormerTable) {
        match self.returned.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(table),
            None => free_table(table),
        }
    }
}

impl Drop for TableCache {
    fn drop(&mut self) {
        while let Some(table) = self.take() {
            free_table(table.discard());
        }
        self.free_returned();
    }
}

impl Loaded<'_> {
    /// Returns the vCPU, and its table pages for the fault path.
    pub(crate) fn with_tables(&mut self) -> (&Vcpu, &mut TableCache) {
        let vcpu = self.vcpu();
        // SAFETY: This thread holds `vcpu->mutex`, and `self` is the only token of the vCPU in use.
        // The result borrows it mutably, so no second reference exists.
        (vcpu, unsafe {
            &mut *vcpu.part::<UnsafeCell<TableCache>>().get()
        })
    }
}

#[kunit_tests(kvm_riscv_table_cache)]
mod tests {
    use super::*;

    #[test]
    fn empty_cache_has_nothing_to_give() {
        assert!(TableCache::new().take().is_none());
    }

    #[test]
    fn as_many_as_were_asked_for() -> Result {
        let mut cache = TableCache::new();
        cache.top_up(3)?;
        cache.top_up(2)?;
        let mut count = 0;
        while let Some(table) = cache.take() {
            free_table(table.discard());
            count += 1;
        }
        assert_eq!(count, 3);
        cache.top_up(1)?;
        let one_more = cache.take().map(TablePage::discard);
        assert!(one_more.map(free_table).is_some());
        Ok(())
    }

    #[test]
    fn not_more_than_there_is_room_for() -> Result {
        let mut cache = TableCache::new();
        cache.top_up(usize::MAX)?;
        let mut count = 0;
        while let Some(table) = cache.take() {
            // More than the cache keeps: the rest is freed at once.
            cache.give_back(table.discard());
            count += 1;
        }
        assert_eq!(count, TableCache::CAPACITY);
        Ok(())
    }

    /// A table that was given back is not zero any more.
    #[test]
    fn what_comes_back_is_not_given_again() -> Result {
        let mut cache = TableCache::new();
        cache.top_up(1)?;
        let Some(table) = cache.take() else {
            return Err(ENOENT);
        };
        cache.give_back(table.discard());
        assert!(cache.take().is_none());
        Ok(())
    }
}
