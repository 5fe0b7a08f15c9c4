// SPDX-License-Identifier: GPL-2.0

//! "Precise effects on interrupt-pending bits", as a table.

use super::{
    model::Mode, //
    World,
    CLRIPNUM,
    IN_CLRIP,
    SETIENUM,
    SETIP,
    SETIPNUM,
};
use crate::aia::msi::Level;

/// What the wire's polarity does not matter for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Detached,
    Edge,
    LevelSensitive,
}

/// What happens to a source.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The rectified input rises (or would, if the source heeded the wire).
    Rise,
    /// The rectified input falls.
    Fall,
    /// setip, setipnum.
    Set,
    /// in_clrip, clripnum.
    Clear,
}

/// "Precise effects on interrupt-pending bits", for MSI delivery mode, complete: in a kind of
/// source, with this rectified input and this pending bit before an event, the pending bit after.
/// For Detached sources, the input is the wire's, which counts for nothing. A level-sensitive
/// source is never pending with a low input.
const PENDING: [(Kind, u8, u8, Event, u8); 36] = {
    use Event::*;
    use Kind::*;
    [
        (Detached, 0, 0, Rise, 0),
        (Detached, 0, 1, Rise, 1),
        (Detached, 1, 0, Fall, 0),
        (Detached, 1, 1, Fall, 1),
        (Detached, 0, 0, Set, 1),
        (Detached, 0, 1, Set, 1),
        (Detached, 1, 0, Set, 1),
        (Detached, 1, 1, Set, 1),
        (Detached, 0, 0, Clear, 0),
        (Detached, 0, 1, Clear, 0),
        (Detached, 1, 0, Clear, 0),
        (Detached, 1, 1, Clear, 0),
        (Edge, 0, 0, Rise, 1),
        (Edge, 0, 1, Rise, 1),
        (Edge, 1, 0, Fall, 0),
        (Edge, 1, 1, Fall, 1),
        (Edge, 0, 0, Set, 1),
        (Edge, 0, 1, Set, 1),
        (Edge, 1, 0, Set, 1),
        (Edge, 1, 1, Set, 1),
        (Edge, 0, 0, Clear, 0),
        (Edge, 0, 1, Clear, 0),
        (Edge, 1, 0, Clear, 0),
        (Edge, 1, 1, Clear, 0),
        (LevelSensitive, 0, 0, Rise, 1),
        (LevelSensitive, 1, 0, Fall, 0),
        (LevelSensitive, 1, 1, Fall, 0),
        (LevelSensitive, 0, 0, Set, 0),
        (LevelSensitive, 1, 0, Set, 1),
        (LevelSensitive, 1, 1, Set, 1),
        (LevelSensitive, 0, 0, Clear, 0),
        (LevelSensitive, 1, 0, Clear, 0),
        (LevelSensitive, 1, 1, Clear, 0),
        // No change is no transition.
        (LevelSensitive, 1, 0, Rise, 0),
        (Edge, 1, 0, Rise, 0),
        (Edge, 0, 0, Fall, 0),
    ]
};

#[test]
fn pending_bits_follow_the_table() {
    for (kind, input, before, event, after) in PENDING {
        let modes: &[Mode] = match kind {
            Kind::Detached => &[Mode::Detached],
            Kind::Edge => &[Mode::Edge1, Mode::Edge0],
            Kind::LevelSensitive => &[Mode::Level1, Mode::Level0],
        };
        for &mode in modes {
            for number in [1, 31, 32, 63] {
                for by_number in [false, true] {
                    let row = (mode, input, before, event, number);
                    let mut world = World::new(63);
                    let inverted = matches!(mode, Mode::Edge0 | Mode::Level0);
                    let carry = |high: bool| match high != inverted {
                        true => Level::High,
                        false => Level::Low,
                    };
                    world.mode(number, mode);
                    let _ = world.wire(number, carry(input == 1));
                    let prepare = if before == 1 { SETIPNUM } else { CLRIPNUM };
                    world.write(prepare, number);
                    assert_eq!(world.is_pending(number), before == 1, "before {row:?}");
                    if !matches!(kind, Kind::Detached) {
                        assert_eq!(world.input(number), input == 1, "before {row:?}");
                    }
                    let (word, bit) = (4 * (number / 32), 1 << (number % 32));
                    match (event, by_number) {
                        (Event::Rise, _) => drop(world.wire(number, carry(true))),
                        (Event::Fall, _) => drop(world.wire(number, carry(false))),
                        (Event::Set, false) => world.write(SETIP + word, bit),
                        (Event::Set, true) => world.write(SETIPNUM, number),
                        (Event::Clear, false) => world.write(IN_CLRIP + word, bit),
                        (Event::Clear, true) => world.write(CLRIPNUM, number),
                    }
                    assert_eq!(world.is_pending(number), after == 1, "after {row:?}");
                    // Not enabled: nothing leaves. Enabled: what is pending does, once.
                    assert_eq!(world.count(), 0);
                    world.write(SETIENUM, number);
                    assert_eq!(world.count(), after.into(), "sent {row:?}");
                    assert!(!world.is_pending(number));
                }
            }
        }
    }
}
