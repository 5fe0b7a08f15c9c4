// SPDX-License-Identifier: GPL-2.0

//! VMIDs: no hart ever finds another VM's translations under the VMID that it uses.

#[cfg(not(loom))]
mod one_by_one {
    use proptest::prelude::*;

    use crate::gstage::vmid::{
        Cell,
        Space,
        Tag, //
    };

    const HARTS: usize = 3;
    const VMS: usize = 4;
    const VCPUS_PER_VM: usize = 2;
    const VCPUS: usize = VMS * VCPUS_PER_VM;

    /// What `mem::tlb::TranslationState` and `Memory::settle` do, on harts whose TLBs forget
    /// nothing by themselves.
    struct Model {
        space: Space,
        cells: [Cell; VMS],
        /// Per hart: who left translations under which VMID.
        tlbs: [Vec<(u16, usize)>; HARTS],
        /// Per hart: the vCPU that is loaded, with the tag that it was loaded with.
        loaded: [Option<(usize, Tag)>; HARTS],
        /// Per vCPU: where it last was, and with which tag.
        left: [Option<(usize, Tag)>; VCPUS],
    }

    impl Model {
        fn new(bits: u32) -> Self {
            Model {
                space: Space::new(bits),
                cells: core::array::from_fn(|_| Cell::new()),
                tlbs: Default::default(),
                loaded: [None; HARTS],
                left: [None; VCPUS],
            }
        }

        fn load(&mut self, vcpu: usize, hart: usize) {
            let elsewhere = |(at, l): (usize, &Option<(usize, Tag)>)| {
                at != hart && l.is_some_and(|(other, _)| other == vcpu)
            };
            if self.loaded.iter().enumerate().any(elsewhere) {
                return;
            }
            let tag = self.space.current(&self.cells[vcpu / VCPUS_PER_VM]);
            if self.left[vcpu] != Some((hart, tag)) {
                self.tlbs[hart].retain(|(vmid, _)| *vmid != tag.vmid().get());
            }
            self.left[vcpu] = Some((hart, tag));
            self.loaded[hart] = Some((vcpu, tag));
        }

        fn run(&mut self, hart: usize) {
            let Some((vcpu, tag)) = self.loaded[hart] else {
                return;
            };
            let (vm, vmid) = (vcpu / VCPUS_PER_VM, tag.vmid().get());
            for &(tagged, owner) in &self.tlbs[hart] {
                assert!(
                    tagged != vmid || owner == vm,
                    "VM {vm} finds translations of VM {owner} under VMID {vmid}"
                );
            }
            self.tlbs[hart].push((vmid, vm));
        }
    }

    proptest! {
        #[test]
        fn nobody_finds_translations_of_another_vm(
            bits in 1_u32..4,
            steps in proptest::collection::vec((0..HARTS, 0..VCPUS, 0..3_u8), 1..300),
        ) {
            let mut model = Model::new(bits);
            for (hart, vcpu, what) in steps {
                match what {
                    0 => model.load(vcpu, hart),
                    1 => model.run(hart),
                    _ => model.loaded[hart] = None,
                }
            }
        }
    }

    #[test]
    fn tag_stays_until_vmids_run_out() {
        let space = Space::new(2);
        let cells: [Cell; 4] = core::array::from_fn(|_| Cell::new());
        let first = space.current(&cells[0]);
        assert_eq!(first.vmid().get(), 1);
        assert_eq!(space.current(&cells[1]).vmid().get(), 2);
        assert_eq!(space.current(&cells[2]).vmid().get(), 3);
        assert_eq!(space.current(&cells[0]), first);
        // A new generation: the others' are void.
        assert_eq!(space.current(&cells[3]).vmid().get(), 1);
        let second = space.current(&cells[0]);
        assert_eq!(second.vmid().get(), 2);
        assert_ne!(second, first);
    }

    #[test]
    fn vmid_0_is_never_handed_out() {
        let space = Space::new(1);
        for _ in 0..10 {
            assert_eq!(space.current(&Cell::new()).vmid().get(), 1);
        }
    }

    #[test]
    fn all_14_bits_are_used() {
        let space = Space::new(14);
        let last = (1..1 << 14).map(|_| space.current(&Cell::new())).last();
        assert_eq!(last.map(|tag| tag.vmid().get()), Some(0x3fff));
    }

    #[test]
    fn host_without_vmids_uses_0() {
        let space = Space::new(0);
        let cell = Cell::new();
        assert_eq!(space.current(&cell), Tag::NONE);
        assert_eq!(space.current(&cell), Tag::NONE);
    }
}

#[cfg(loom)]
mod interleave {
    use loom::{
        sync::Arc,
        thread, //
    };

    use crate::{
        gstage::vmid::{
            Cell,
            Space, //
        },
        tests::explore::explore, //
    };

    /// Two vCPUs of one VM and one of another, with a single VMID to share: each generation has
    /// one owner.
    #[test]
    fn loom_two_vms_never_share_a_tag() {
        explore(|| {
            let space = Arc::new(Space::new(1));
            let ours = Arc::new(Cell::new());
            let sibling = {
                let (space, ours) = (space.clone(), ours.clone());
                thread::spawn(move || space.current(&ours))
            };
            let other = {
                let space = space.clone();
                thread::spawn(move || space.current(&Cell::new()))
            };
            let we = [space.current(&ours), sibling.join().unwrap()];
            let they = other.join().unwrap();
            assert!(!we.contains(&they), "{we:?} {they:?}");
        });
    }

    /// Two vCPUs of a VM that is new to a generation: whoever is slower takes the other's tag.
    #[test]
    fn loom_vcpus_of_one_vm_agree_on_a_tag() {
        explore(|| {
            let space = Arc::new(Space::new(2));
            let ours = Arc::new(Cell::new());
            let sibling = {
                let (space, ours) = (space.clone(), ours.clone());
                thread::spawn(move || space.current(&ours))
            };
            let here = space.current(&ours);
            assert_eq!(here, sibling.join().unwrap());
            assert_eq!(here, space.current(&ours));
        });
    }

    /// A hart that takes the tag of a faster sibling has seen its generation begin, even if the
    /// hart itself drew the last number of the generation before.
    #[test]
    fn loom_generations_never_go_back_after_a_faster_sibling() {
        explore(|| {
            // Of three VMIDs two are taken: the next but one begins a generation.
            let space = Arc::new(Space::new(2));
            let cells = Arc::new([Cell::new(), Cell::new()]);
            space.current(&Cell::new());
            space.current(&cells[1]);
            let sibling = {
                let (space, cells) = (space.clone(), cells.clone());
                thread::spawn(move || space.current(&cells[0]))
            };
            let [first, second] = [0, 1].map(|vm: usize| space.current(&cells[vm]));
            assert!(first.generation() <= second.generation());
            sibling.join().unwrap();
        });
    }

    /// A hart that has loaded a tag never loads one of an older generation afterwards.
    #[test]
    fn loom_generations_never_go_back_on_a_hart() {
        explore(|| {
            let space = Arc::new(Space::new(1));
            let cells = Arc::new([Cell::new(), Cell::new()]);
            let hart = |order: [usize; 2]| {
                let (space, cells) = (space.clone(), cells.clone());
                move || {
                    let [first, second] = order.map(|vm| space.current(&cells[vm]));
                    assert!(first.generation() <= second.generation());
                }
            };
            let other = thread::spawn(hart([1, 0]));
            hart([0, 1])();
            other.join().unwrap();
        });
    }
}
