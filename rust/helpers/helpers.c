// SPDX-License-Identifier: GPL-2.0
/*
 * Static inlines and macros of the kernel that the arch layer calls, one C
 * function each and no logic. Rust calls them under the inline's own name
 * (see Kbuild and rust/bindings.rs).
 */
#include "../include/kvm_compat.h"

#include <linux/context_tracking.h>
#include <linux/cpu_pm.h>
#include <linux/hugetlb.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/irq.h>
#include <linux/irqchip/riscv-imsic.h>
#include <linux/irqdomain.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/pagemap.h>
#include <linux/perf_event.h>
#include <linux/perf/riscv_pmu.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/smp.h>
#include <clocksource/timer-riscv.h>
#include <asm/cacheflush.h>
#include <asm/cpufeature.h>
#include <asm/sbi.h>
#include <asm/timex.h>
#include <asm/vector.h>

#include "../trace.h"

/* Inlined across languages where the crate is linked as bitcode, see Kbuild. */
#ifdef __INLINE_HELPERS
#define __rust_helper __always_inline
#else
#define __rust_helper
#endif

/* Context: preemption, interrupts, RCU. */

__rust_helper void rust_helper_kvm_rs_preempt_disable(void) { preempt_disable(); }
__rust_helper void rust_helper_kvm_rs_preempt_enable(void) { preempt_enable(); }
__rust_helper unsigned long rust_helper_kvm_rs_local_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}
__rust_helper void rust_helper_kvm_rs_local_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}
__rust_helper unsigned int rust_helper_kvm_rs_smp_processor_id(void) { return smp_processor_id(); }
__rust_helper unsigned int rust_helper_kvm_rs_num_online_cpus(void) { return num_online_cpus(); }
__rust_helper void rust_helper_kvm_rs_cond_resched(void) { cond_resched(); }
__rust_helper bool rust_helper_kvm_rs_signal_pending(void) { return signal_pending(current); }

__rust_helper void rust_helper_kvm_rs_raw_spin_lock_init(raw_spinlock_t *lock, const char *name,
							 struct lock_class_key *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__raw_spin_lock_init(lock, name, key, LD_WAIT_SPIN);
#else
	raw_spin_lock_init(lock);
#endif
}
__rust_helper unsigned long rust_helper_kvm_rs_raw_spin_lock_irqsave(raw_spinlock_t *lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(lock, flags);
	return flags;
}
__rust_helper bool rust_helper_kvm_rs_raw_spin_trylock_irqsave(raw_spinlock_t *lock,
							       unsigned long *flags)
{
	return raw_spin_trylock_irqsave(lock, *flags);
}
__rust_helper void rust_helper_kvm_rs_raw_spin_unlock_irqrestore(raw_spinlock_t *lock,
								 unsigned long flags)
{
	raw_spin_unlock_irqrestore(lock, flags);
}
__rust_helper void rust_helper_kvm_rs_raw_spin_assert_is_held(raw_spinlock_t *lock)
{
	lockdep_assert_held(lock);
}

/* vCPU entry and exit. */

__rust_helper int rust_helper_kvm_xfer_to_guest_mode_handle_work(struct kvm_vcpu *vcpu)
{
	return kvm_xfer_to_guest_mode_handle_work(vcpu);
}
__rust_helper bool rust_helper___xfer_to_guest_mode_work_pending(void)
{
	return __xfer_to_guest_mode_work_pending();
}
__rust_helper bool rust_helper_xfer_to_guest_mode_work_pending(void)
{
	return xfer_to_guest_mode_work_pending();
}
__rust_helper void rust_helper_guest_timing_enter_irqoff(void) { guest_timing_enter_irqoff(); }
__rust_helper void rust_helper_guest_timing_exit_irqoff(void) { guest_timing_exit_irqoff(); }
/* With context tracking, the bracket in enter.c tells RCU. */
__rust_helper void rust_helper_kvm_rs_note_guest(void)
{
	if (!context_tracking_enabled())
		rcu_virt_note_context_switch();
}
/* How long the thread was ready to run and had no CPU, in ns. */
__rust_helper int rust_helper_sched_info_on(void) { return sched_info_on(); }
__rust_helper u64 rust_helper_kvm_rs_run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return READ_ONCE(current->sched_info.run_delay);
#else
	return 0;
#endif
}
__rust_helper void rust_helper_kvm_vcpu_kick(struct kvm_vcpu *vcpu) { kvm_vcpu_kick(vcpu); }
__rust_helper bool rust_helper_kvm_vcpu_wake_up(struct kvm_vcpu *vcpu)
{
	return kvm_vcpu_wake_up(vcpu);
}
__rust_helper bool rust_helper_kvm_vcpu_is_blocking(struct kvm_vcpu *vcpu)
{
	return kvm_vcpu_is_blocking(vcpu);
}
__rust_helper int rust_helper_kvm_vcpu_exiting_guest_mode(struct kvm_vcpu *vcpu)
{
	return kvm_vcpu_exiting_guest_mode(vcpu);
}
__rust_helper struct kvm_vcpu *rust_helper_kvm_get_vcpu(struct kvm *kvm, int i)
{
	return kvm_get_vcpu(kvm, i);
}
__rust_helper struct kvm_vcpu *rust_helper_kvm_get_vcpu_by_id(struct kvm *kvm, int id)
{
	return kvm_get_vcpu_by_id(kvm, id);
}
__rust_helper unsigned int rust_helper_kvm_rs_online_vcpus(struct kvm *kvm)
{
	return atomic_read(&kvm->online_vcpus);
}
__rust_helper struct kvm_vcpu *rust_helper_kvm_rs_running_vcpu(void)
{
	return *this_cpu_ptr(kvm_get_running_vcpus());
}
/* The macro evaluates its condition repeatedly, so the caller passes a function, @woken. */
__rust_helper int rust_helper_kvm_rs_wait_event(struct kvm_vcpu *vcpu, bool (*woken)(struct kvm_vcpu *))
{
	return rcuwait_wait_event(kvm_arch_vcpu_get_wait(vcpu), woken(vcpu), TASK_INTERRUPTIBLE);
}

/* Inlines that do nothing in a kernel without CONFIG_CPU_PM. */

__rust_helper int rust_helper_cpu_pm_register_notifier(struct notifier_block *block)
{
	return cpu_pm_register_notifier(block);
}
__rust_helper int rust_helper_cpu_pm_unregister_notifier(struct notifier_block *block)
{
	return cpu_pm_unregister_notifier(block);
}

/* Locks of a VM, in their order. */

__rust_helper void rust_helper_kvm_rs_lock_vm(struct kvm *kvm)
{
	mutex_lock(&kvm->lock);
	mutex_lock(&kvm->slots_lock);
}
__rust_helper void rust_helper_kvm_rs_unlock_vm(struct kvm *kvm)
{
	mutex_unlock(&kvm->slots_lock);
	mutex_unlock(&kvm->lock);
}

__rust_helper void rust_helper_kvm_rs_lock(struct kvm *kvm) { mutex_lock(&kvm->lock); }
__rust_helper void rust_helper_kvm_rs_unlock(struct kvm *kvm) { mutex_unlock(&kvm->lock); }
__rust_helper void rust_helper_kvm_rs_lock_slots(struct kvm *kvm) { mutex_lock(&kvm->slots_lock); }
__rust_helper void rust_helper_kvm_rs_unlock_slots(struct kvm *kvm)
{
	mutex_unlock(&kvm->slots_lock);
}
__rust_helper int rust_helper_kvm_rs_lock_vcpu_killable(struct kvm_vcpu *vcpu)
{
	return mutex_lock_killable(&vcpu->mutex);
}
__rust_helper void rust_helper_kvm_rs_unlock_vcpu(struct kvm_vcpu *vcpu)
{
	mutex_unlock(&vcpu->mutex);
}
__rust_helper bool rust_helper_kvm_is_vcpu_creation_in_progress(struct kvm *kvm)
{
	return kvm_is_vcpu_creation_in_progress(kvm);
}

/* Memory slots and kvm->mmu_lock. */

__rust_helper int rust_helper_kvm_rs_slots_read_lock(struct kvm *kvm)
{
	return srcu_read_lock(&kvm->srcu);
}
__rust_helper void rust_helper_kvm_rs_slots_read_unlock(struct kvm *kvm, int index)
{
	srcu_read_unlock(&kvm->srcu, index);
}
__rust_helper bool rust_helper_kvm_are_all_memslots_empty(struct kvm *kvm)
{
	return kvm_are_all_memslots_empty(kvm);
}
__rust_helper bool rust_helper_kvm_dirty_log_manual_protect_and_init_set(struct kvm *kvm)
{
	return kvm_dirty_log_manual_protect_and_init_set(kvm);
}
__rust_helper void rust_helper_kvm_rs_mmu_read_lock(struct kvm *kvm) { read_lock(&kvm->mmu_lock); }
__rust_helper void rust_helper_kvm_rs_mmu_read_unlock(struct kvm *kvm) { read_unlock(&kvm->mmu_lock); }
__rust_helper void rust_helper_kvm_rs_mmu_write_lock(struct kvm *kvm) { write_lock(&kvm->mmu_lock); }
__rust_helper void rust_helper_kvm_rs_mmu_write_unlock(struct kvm *kvm)
{
	write_unlock(&kvm->mmu_lock);
}
__rust_helper bool rust_helper_kvm_rs_mmu_needbreak(struct kvm *kvm)
{
	return need_resched() || rwlock_needbreak(&kvm->mmu_lock);
}
__rust_helper bool rust_helper_mmu_invalidate_retry_gfn(struct kvm *kvm, unsigned long seq, gfn_t gfn)
{
	return mmu_invalidate_retry_gfn(kvm, seq, gfn);
}
__rust_helper unsigned long rust_helper_kvm_rs_mmu_invalidate_seq(struct kvm *kvm)
{
	unsigned long seq = READ_ONCE(kvm->mmu_invalidate_seq);

	smp_rmb();
	return seq;
}
__rust_helper kvm_pfn_t rust_helper_kvm_rs_faultin_pfn(const struct kvm_memory_slot *slot, gfn_t gfn,
						       bool write, bool *writable,
						       struct page **page)
{
	return __kvm_faultin_pfn(slot, gfn, write ? FOLL_WRITE : 0, writable, page);
}
/* The frames of the hugetlb page that @page is a part of; 1 for all other memory. */
__rust_helper unsigned long rust_helper_kvm_rs_hugetlb_frames(const struct page *page)
{
	const struct folio *folio = page_folio(page);

	return folio_test_hugetlb(folio) ? folio_nr_pages(folio) : 1;
}
__rust_helper unsigned long rust_helper_kvm_rs_alloc_pages(gfp_t gfp, unsigned int order)
{
	return __get_free_pages(gfp, order);
}
__rust_helper void rust_helper_kvm_rs_free_pages(unsigned long addr, unsigned int order)
{
	free_pages(addr, order);
}
__rust_helper void rust_helper_kvm_account_pgtable_pages(void *virt, int nr)
{
	kvm_account_pgtable_pages(virt, nr);
}
__rust_helper void *rust_helper_kvm_rs_phys_to_virt(phys_addr_t pa) { return phys_to_virt(pa); }
__rust_helper phys_addr_t rust_helper_kvm_rs_virt_to_phys(void *va) { return virt_to_phys(va); }

/* Host address space. */

__rust_helper unsigned int rust_helper_kvm_rs_vma_hugetlb_shift(struct vm_area_struct *vma)
{
	return huge_page_shift(hstate_vma(vma));
}
__rust_helper void rust_helper_kvm_rs_send_sig_mceerr(unsigned long addr, short lsb)
{
	send_sig_mceerr(BUS_MCEERR_AR, (void __user *)addr, lsb, current);
}

/* Host page tables, one step each. */

__rust_helper pgd_t rust_helper_kvm_rs_pgd(struct mm_struct *mm, unsigned long addr)
{
	return pgdp_get(pgd_offset(mm, addr));
}
__rust_helper bool rust_helper_kvm_rs_pgd_none(pgd_t pgd) { return pgd_none(pgd); }
__rust_helper p4d_t rust_helper_kvm_rs_p4d(pgd_t pgd, unsigned long addr)
{
	return p4dp_get(p4d_offset(&pgd, addr));
}
__rust_helper bool rust_helper_kvm_rs_p4d_present(p4d_t p4d)
{
	return !p4d_none(p4d) && p4d_present(p4d);
}
__rust_helper pud_t rust_helper_kvm_rs_pud(p4d_t p4d, unsigned long addr)
{
	return pudp_get(pud_offset(&p4d, addr));
}
__rust_helper bool rust_helper_kvm_rs_pud_present(pud_t pud)
{
	return !pud_none(pud) && pud_present(pud);
}
__rust_helper bool rust_helper_kvm_rs_pud_leaf(pud_t pud) { return pud_leaf(pud); }
__rust_helper pmd_t rust_helper_kvm_rs_pmd(pud_t pud, unsigned long addr)
{
	return pmdp_get(pmd_offset(&pud, addr));
}
__rust_helper bool rust_helper_kvm_rs_pmd_present(pmd_t pmd)
{
	return !pmd_none(pmd) && pmd_present(pmd);
}
__rust_helper bool rust_helper_kvm_rs_pmd_leaf(pmd_t pmd) { return pmd_leaf(pmd); }
__rust_helper pte_t rust_helper_kvm_rs_pud_pte(pud_t pud) { return pud_pte(pud); }
__rust_helper pte_t rust_helper_kvm_rs_pmd_pte(pmd_t pmd) { return pmd_pte(pmd); }
__rust_helper pte_t *rust_helper_kvm_rs_ptep(pmd_t pmd, unsigned long addr)
{
	return pte_offset_kernel(&pmd, addr);
}
__rust_helper pte_t rust_helper_kvm_rs_ptep_get(pte_t *ptep) { return ptep_get(ptep); }
/*
 * Returns whether the process may read through @pte, and it maps ordinary memory with
 * a struct page: neither PROT_NONE, nor special, nor of another memory type.
 */
__rust_helper bool rust_helper_kvm_rs_pte_is_ordinary(pte_t pte)
{
	const unsigned long wanted = _PAGE_PRESENT | _PAGE_READ | _PAGE_USER;

	return (pte_val(pte) & (wanted | _PAGE_SPECIAL | _PAGE_MTMASK)) == wanted;
}
__rust_helper bool rust_helper_kvm_rs_pte_none(pte_t pte) { return pte_none(pte); }
/* Returns whether the process may read through @pte, whatever memory it maps. */
__rust_helper bool rust_helper_kvm_rs_pte_is_readable(pte_t pte)
{
	const unsigned long wanted = _PAGE_PRESENT | _PAGE_READ | _PAGE_USER;

	return (pte_val(pte) & wanted) == wanted;
}
__rust_helper bool rust_helper_kvm_rs_pte_write(pte_t pte) { return pte_write(pte); }
__rust_helper bool rust_helper_kvm_rs_pte_dirty(pte_t pte) { return pte_dirty(pte); }
__rust_helper unsigned long rust_helper_kvm_rs_pte_pfn(pte_t pte) { return pte_pfn(pte); }
__rust_helper bool rust_helper_kvm_rs_pte_napot(pte_t pte) { return pte_napot(pte); }
/* Returns 4K, or the size of the block that a Svnapot entry is a part of. */
__rust_helper unsigned long rust_helper_kvm_rs_pte_leaf_size(pte_t pte)
{
	return pte_leaf_size(pte);
}

/* Flags that mm/ keeps of pages. */

/*
 * Returns the struct page of frame 0, which is the base of the array of all of them.
 * A kernel that finds its paging mode at boot computes the base at each use, so the
 * caller keeps it, as @map below. A kernel without one array ignores @map.
 */
__rust_helper struct page *rust_helper_kvm_rs_memmap(void)
{
#if defined(CONFIG_SPARSEMEM_VMEMMAP) || defined(CONFIG_FLATMEM)
	return pfn_to_page(0);
#else
	return NULL;
#endif
}
__rust_helper struct page *rust_helper_kvm_rs_memmap_page(struct page *map, unsigned long pfn)
{
#if defined(CONFIG_SPARSEMEM_VMEMMAP) || defined(CONFIG_FLATMEM)
	return map + pfn;
#else
	return pfn_to_page(pfn);
#endif
}
__rust_helper struct folio *rust_helper_kvm_rs_page_folio(struct page *page)
{
	return page_folio(page);
}
/*
 * Returns whether @page is memory of memfd_secret(). Most pages are anonymous memory,
 * shmem or a part of a large folio, and secret memory is none of these; @page itself
 * tells, without its folio. secretmem_mapping() is not exported, so for the others
 * this compares the file system, of files whose pages the kernel may not evict: ramfs,
 * noswap tmpfs and SHM_LOCKed files are such, too. The caller has interrupts disabled,
 * so mapping and inode are not freed, see gup_fast_folio_allowed().
 */
__rust_helper bool rust_helper_kvm_rs_page_is_secret(const struct page *page)
{
	const struct address_space *mapping;

	if (test_bit(PG_swapbacked, &page->flags.f) || PageCompound(page))
		return false;
	mapping = READ_ONCE(page_folio(page)->mapping);
	return mapping &&
	       !((unsigned long)mapping & FOLIO_MAPPING_FLAGS) &&
	       test_bit(AS_UNEVICTABLE, &mapping->flags) &&
	       mapping->host->i_sb->s_magic == SECRETMEM_MAGIC;
}
__rust_helper bool rust_helper_kvm_rs_folio_referenced(const struct folio *folio)
{
	return folio_test_referenced(folio);
}
__rust_helper bool rust_helper_kvm_rs_folio_anon(const struct folio *folio)
{
	return folio_test_anon(folio);
}
/* Returns whether all CPUs have seen the instructions in @folio, see flush_icache_pte(). */
__rust_helper bool rust_helper_kvm_rs_folio_icache_clean(const struct folio *folio)
{
	return test_bit(PG_dcache_clean, &folio->flags.f);
}
__rust_helper void rust_helper_kvm_rs_folio_set_icache_clean(struct folio *folio)
{
	set_bit(PG_dcache_clean, &folio->flags.f);
}
__rust_helper void rust_helper_kvm_rs_flush_icache_all(void) { flush_icache_all(); }
__rust_helper void rust_helper_kvm_rs_folio_set_referenced(struct folio *folio)
{
	folio_set_referenced(folio);
}
__rust_helper bool rust_helper_kvm_rs_page_reserved(const struct page *page)
{
	return PageReserved(page);
}
__rust_helper bool rust_helper_kvm_rs_page_dirty(const struct page *page) { return PageDirty(page); }
__rust_helper void rust_helper_kvm_rs_set_page_dirty(struct page *page) { SetPageDirty(page); }
__rust_helper void rust_helper_kvm_rs_put_page(struct page *page) { put_page(page); }

/* Host ISA, firmware, time. */

__rust_helper bool rust_helper_kvm_rs_host_isa_has(unsigned int ext)
{
	return __riscv_isa_extension_available(NULL, ext);
}
__rust_helper bool rust_helper_kvm_rs_misaligned_traps_can_delegate(void)
{
	return misaligned_traps_can_delegate();
}
__rust_helper bool rust_helper_arch_has_hw_pte_young(void) { return arch_has_hw_pte_young(); }
__rust_helper bool rust_helper_riscv_v_vstate_ctrl_user_allowed(void)
{
	return riscv_v_vstate_ctrl_user_allowed();
}
__rust_helper bool rust_helper_sbi_spec_is_0_1(void) { return sbi_spec_is_0_1(); }
__rust_helper u64 rust_helper_kvm_rs_get_cycles64(void) { return get_cycles64(); }
__rust_helper void rust_helper_riscv_cs_get_mult_shift(u32 *mult, u32 *shift)
{
	riscv_cs_get_mult_shift(mult, shift);
}

/* The host's interrupt files. All but the first are called only if there are any. */

__rust_helper bool rust_helper_kvm_rs_imsic_is_there(void) { return imsic_get_global_config(); }
__rust_helper u32 rust_helper_kvm_rs_imsic_guest_ids(void)
{
	return imsic_get_global_config()->nr_guest_ids;
}
__rust_helper u32 rust_helper_kvm_rs_imsic_guest_files(void)
{
	return imsic_get_global_config()->nr_guest_files;
}
__rust_helper u32 rust_helper_kvm_rs_imsic_local_guest_files(unsigned int cpu)
{
	return per_cpu_ptr(imsic_get_global_config()->local, cpu)->nr_guest_files;
}
__rust_helper phys_addr_t rust_helper_kvm_rs_imsic_pa(unsigned int cpu)
{
	return per_cpu_ptr(imsic_get_global_config()->local, cpu)->msi_pa;
}
__rust_helper void *rust_helper_kvm_rs_imsic_va(unsigned int cpu)
{
	return (__force void *)per_cpu_ptr(imsic_get_global_config()->local, cpu)->msi_va;
}
__rust_helper void rust_helper_kvm_rs_writel(u32 value, void *to)
{
	writel(value, (__force void __iomem *)to);
}

/* The interrupt by which they wake the host. Its cookie must be a per-CPU variable, and is not used. */

static DEFINE_PER_CPU(u8, kvm_rs_irq_cookie);

__rust_helper unsigned int rust_helper_kvm_rs_local_irq(unsigned int number)
{
	struct irq_domain *domain = irq_find_matching_fwnode(riscv_get_intc_hwnode(), DOMAIN_BUS_ANY);

	return domain ? irq_create_mapping(domain, number) : 0;
}
__rust_helper int rust_helper_kvm_rs_request_percpu_irq(unsigned int irq,
							irqreturn_t (*handler)(int, void *))
{
	return request_percpu_irq(irq, handler, "riscv-kvm", &kvm_rs_irq_cookie);
}
__rust_helper void rust_helper_kvm_rs_free_percpu_irq(unsigned int irq)
{
	free_percpu_irq(irq, &kvm_rs_irq_cookie);
}
__rust_helper void rust_helper_kvm_rs_enable_percpu_irq(unsigned int irq)
{
	enable_percpu_irq(irq, irq_get_trigger_type(irq));
}
__rust_helper void rust_helper_kvm_rs_disable_percpu_irq(unsigned int irq)
{
	disable_percpu_irq(irq);
}

/* Other CPUs. */

__rust_helper int rust_helper_kvm_rs_call_on_cpu(int cpu, void (*work)(void *), void *arg)
{
	return smp_call_function_single(cpu, work, arg, 1);
}
__rust_helper bool rust_helper_kvm_rs_irqs_disabled(void) { return irqs_disabled(); }
__rust_helper bool rust_helper_kvm_rs_is_suspending(void)
{
	return system_state == SYSTEM_SUSPEND;
}

/* Vector state. */

#ifdef CONFIG_RISCV_ISA_V
__rust_helper void rust_helper_kvm_rs_vstate_save(struct __riscv_v_ext_state *v, void *data)
{
	__riscv_v_vstate_save(v, data);
}
__rust_helper void rust_helper_kvm_rs_vstate_restore(struct __riscv_v_ext_state *v, void *data)
{
	__riscv_v_vstate_restore(v, data);
}
__rust_helper unsigned long rust_helper_kvm_rs_vsize(void) { return riscv_v_vsize; }
/* Saves user mode's registers and has them restored later, as a thread switch does. */
__rust_helper void rust_helper_kvm_rs_user_vector_save(void)
{
	struct pt_regs *regs = task_pt_regs(current);

	riscv_v_vstate_save(&current->thread.vstate, regs);
	riscv_v_vstate_set_restore(current, regs);
}
#endif

#ifdef KVM_RS_VECTOR_CALLBACK
__rust_helper bool rust_helper_has_vector(void) { return has_vector(); }
__rust_helper u32 rust_helper_riscv_v_flags(void) { return riscv_v_flags(); }
__rust_helper void rust_helper_riscv_v_flags_set(u32 flags) { riscv_v_flags_set(flags); }
/* Declared in the tree's <asm/kvm_vcpu_vector.h>, which wants the C arch layer's types. */
void kvm_riscv_register_vctx_callback(void (*func)(void));
void kvm_riscv_unregister_vctx_callback(void);
__rust_helper void rust_helper_kvm_rs_register_vctx_callback(void (*func)(void))
{
	kvm_riscv_register_vctx_callback(func);
}
__rust_helper void rust_helper_kvm_rs_unregister_vctx_callback(void)
{
	kvm_riscv_unregister_vctx_callback();
}
#endif

/* User memory, one word at a time: inline, unlike copy_{from,to}_user(). */

__rust_helper int rust_helper_kvm_rs_get_user_u32(u32 *value, const void __user *from)
{
	return get_user(*value, (const u32 __user *)from);
}
__rust_helper int rust_helper_kvm_rs_get_user_u64(u64 *value, const void __user *from)
{
	return get_user(*value, (const u64 __user *)from);
}
/* Two adjacent words under one check of the address. */
__rust_helper int rust_helper_kvm_rs_get_user_pair(u64 *values, const void __user *from)
{
	const u64 __user *words = from;
	might_fault();
	if (!user_access_begin(words, 2 * sizeof(*words)))
		return -EFAULT;
	unsafe_get_user(values[0], &words[0], fault);
	unsafe_get_user(values[1], &words[1], fault);
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}
__rust_helper int rust_helper_kvm_rs_put_user_u32(u32 value, void __user *to)
{
	return put_user(value, (u32 __user *)to);
}
__rust_helper int rust_helper_kvm_rs_put_user_u64(u64 value, void __user *to)
{
	return put_user(value, (u64 __user *)to);
}

/* The block sizes of the host's caches, and the mode of its page tables. */

__rust_helper unsigned long rust_helper_kvm_rs_cbom_block_size(void) { return riscv_cbom_block_size; }
__rust_helper unsigned long rust_helper_kvm_rs_cboz_block_size(void) { return riscv_cboz_block_size; }
__rust_helper unsigned long rust_helper_kvm_rs_cbop_block_size(void) { return riscv_cbop_block_size; }
__rust_helper unsigned long rust_helper_kvm_rs_satp_mode(void) { return satp_mode >> SATP_MODE_SHIFT; }

/* The rate limit is a static of the call site; Rust's pr_err! has no rate limit. */

__rust_helper void rust_helper_kvm_rs_log_exit_error(unsigned long vcpu_id, int err,
						     unsigned long sepc, unsigned long scause,
						     unsigned long stval, unsigned long htval,
						     unsigned long htinst, unsigned long sstatus,
						     unsigned long hstatus)
{
	pr_err_ratelimited("kvm: vCPU %lu exit error %d: sepc %#lx scause %#lx stval %#lx htval %#lx htinst %#lx sstatus %#lx hstatus %#lx\n",
			   vcpu_id, err, sepc, scause, stval, htval, htinst, sstatus, hstatus);
}

/* The floating-point registers of the thread's user mode, see arch/fp.rs. */

__rust_helper unsigned long rust_helper_kvm_rs_user_fs(void)
{
	return task_pt_regs(current)->status & SR_FS;
}
__rust_helper void rust_helper_kvm_rs_user_fs_clean(void)
{
	struct pt_regs *regs = task_pt_regs(current);

	regs->status = (regs->status & ~SR_FS) | SR_FS_CLEAN;
}
__rust_helper struct __riscv_d_ext_state *rust_helper_kvm_rs_user_fp(void)
{
	return &current->thread.fstate;
}

/* Tracepoints: static keys are C's. */

__rust_helper void rust_helper_trace_kvm_entry(unsigned long pc) { trace_kvm_entry(pc); }
__rust_helper bool rust_helper_trace_kvm_exit_enabled(void) { return trace_kvm_exit_enabled(); }
__rust_helper bool rust_helper_trace_kvm_vcpu_exit_enabled(void) { return trace_kvm_vcpu_exit_enabled(); }
__rust_helper void rust_helper_trace_kvm_exit(unsigned long sepc, unsigned long scause,
					      unsigned long stval, unsigned long htval,
					      unsigned long htinst)
{
	trace_kvm_exit(sepc, scause, stval, htval, htinst);
}
__rust_helper void rust_helper_trace_kvm_vcpu_exit(unsigned long vcpu_id, unsigned long sepc,
						   unsigned long scause, unsigned long stval,
						   unsigned long htval, unsigned long htinst)
{
	trace_kvm_vcpu_exit(vcpu_id, sepc, scause, stval, htval, htinst);
}
__rust_helper void rust_helper_trace_kvm_mmio_emulate(unsigned long vcpu_id, unsigned long sepc,
						      unsigned long insn, unsigned long addr,
						      bool write, int len)
{
	trace_kvm_mmio_emulate(vcpu_id, sepc, insn, addr, write, len);
}
__rust_helper void rust_helper_trace_kvm_vcpu_irq(unsigned long vcpu_id, unsigned int irq, int level)
{
	trace_kvm_vcpu_irq(vcpu_id, irq, level);
}

/* Nested acceleration; the rest is in nacl.c. */

DECLARE_STATIC_KEY_FALSE(kvm_rs_nacl_key);
__rust_helper bool rust_helper_kvm_rs_nacl_is_used(void)
{
	return static_branch_unlikely(&kvm_rs_nacl_key);
}
__rust_helper bool rust_helper_kvm_rs_nacl_is_there(void)
{
	return sbi_spec_version >= sbi_mk_version(1, 0) && sbi_probe_extension(SBI_EXT_NACL) > 0;
}
__rust_helper int rust_helper_sbi_err_map_linux_errno(int err) { return sbi_err_map_linux_errno(err); }
void kvm_rs_nacl_use(void);
void kvm_rs_nacl_enter_guest(void *frame);

/* Core KVM calls this in place of its own function, see kvm_core/stats.rs. */
ssize_t kvm_rs_stats_read(char *id, const struct kvm_stats_header *header,
			  const struct kvm_stats_desc *desc, void *stats, size_t size_stats,
			  char __user *user_buffer, size_t size, loff_t *offset);

/* The bracket around guest entry, in enter.c. */
void kvm_rs_enter_guest(void *context);

/* Performance counters. */

#ifdef CONFIG_RISCV_PMU_SBI
/* rust/vcpu/pmu/perf_event.rs */
void kvm_rs_counter_overflow(struct perf_event *event, void *context);

static void kvm_rs_overflow_handler(struct perf_event *event, struct perf_sample_data *data,
				    struct pt_regs *regs)
{
	kvm_rs_counter_overflow(event, event->overflow_handler_context);
}

/* Counts the current thread while it is in the guest. */
__rust_helper struct perf_event *
rust_helper_kvm_rs_perf_create(u32 type, u64 config, bool exclude_user, bool exclude_kernel,
			       u64 period, void *context)
{
	struct perf_event_attr attr = {
		.type = type,
		.size = sizeof(attr),
		.config = config,
		.config1 = RISCV_PMU_CONFIG1_GUEST_EVENTS,
		.sample_period = period,
		.pinned = true,
		.exclude_host = true,
		.exclude_hv = true,
		.exclude_user = exclude_user,
		.exclude_kernel = exclude_kernel,
	};

	return perf_event_create_kernel_counter(&attr, -1, current, kvm_rs_overflow_handler,
						context);
}
/* Returns whether @event, which is pinned, found no counter when it was last scheduled in. */
__rust_helper bool rust_helper_kvm_rs_perf_is_refused(struct perf_event *event)
{
	return READ_ONCE(event->state) == PERF_EVENT_STATE_ERROR;
}
__rust_helper bool rust_helper_kvm_rs_perf_counts_current(struct perf_event *event)
{
	return event->hw.target == current;
}
/* Called with interrupts off, in the thread that @event counts. */
__rust_helper u64 rust_helper_kvm_rs_perf_read(struct perf_event *event)
{
	if (READ_ONCE(event->state) == PERF_EVENT_STATE_ACTIVE &&
	    READ_ONCE(event->oncpu) == smp_processor_id())
		event->pmu->read(event);
	return local64_read(&event->count);
}
__rust_helper u64 rust_helper_kvm_rs_perf_count(struct perf_event *event)
{
	return local64_read(&event->count);
}
/* Called in the overflow handler of @event: sets the period up to its next overflow. */
__rust_helper void rust_helper_kvm_rs_perf_rearm(struct perf_event *event, u64 period)
{
	event->pmu->stop(event, PERF_EF_UPDATE);
	local64_set(&event->hw.period_left, 0);
	event->attr.sample_period = period;
	event->hw.sample_period = period;
	event->pmu->start(event, PERF_EF_RELOAD);
}
#endif
