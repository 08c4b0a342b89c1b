//! Each step of the state word by itself.

use super::*;

/// I6. Seen to fail with the test `seen == 0` left out of `try_get`: the first assertion.
#[test]
fn count_never_rises_from_zero() {
    let state = State::new();
    assert_eq!(state.try_get(), Err(Refusal::Absent), "not registered yet");
    state.publish();
    state.condemn();
    assert_eq!(state.try_get(), Err(Refusal::Absent), "complete");
    state.wait();
}

/// I7. Seen to fail with the test of DYING left out of `try_get`.
#[test]
fn dying_refuses_new_references() {
    let state = State::new();
    state.publish();
    assert_eq!(state.try_get(), Ok(()));
    state.leave();
    state.condemn();
    assert_eq!(
        state.try_get(),
        Err(Refusal::Absent),
        "one is left, but no new"
    );
    assert!(!state.try_put(false), "not without a guard");
    assert!(!state.is_complete());
    state.put(false);
    assert!(state.is_complete());
}

/// I8, I9. Seen to fail with the test of BUSY left out of `has_returned`, and with `is_complete` there.
#[test]
fn callbacks_are_waited_for_and_visitors_are_not() {
    let state = State::new();
    state.publish();
    assert_eq!(state.try_get(), Ok(()));
    state.condemn();
    assert!(!state.has_returned() && !state.wait_for(Duration::ZERO));
    state.leave();
    assert!(state.has_returned() && state.wait_for(Duration::ZERO));
    state.wait();
    assert!(!state.is_complete());
}

/// I12. Seen to fail with the test of BUSY left out of `try_get`.
#[test]
fn one_at_a_time() {
    let state = State::new();
    state.publish();
    assert_eq!(state.try_get(), Ok(()));
    assert_eq!(state.try_get(), Err(Refusal::Busy));
    state.leave();
    assert_eq!(state.try_get(), Ok(()), "the first is in its visitor");
    let both = Holders {
        references: 2,
        busy: true,
        dying: false,
    };
    assert_eq!(state.holders(), both);
    assert!(state.try_put(true) && state.try_put(false));
    assert_eq!(state.try_get(), Ok(()));
    state.put(true);
    let seen = state.holders();
    assert_eq!((seen.references, seen.busy), (0, false));
}

/// I7, I12. Seen to fail with the tests of DYING and of BUSY left out for those who come back.
#[test]
fn nobody_comes_back_to_a_dying_one() {
    let state = State::new();
    state.publish();
    assert_eq!(state.try_get(), Ok(()));
    state.leave();
    assert_eq!(state.try_return(), Ok(()), "nobody else came");
    assert_eq!(state.try_get(), Err(Refusal::Busy));
    state.leave();
    assert_eq!(state.try_get(), Ok(()));
    assert_eq!(state.try_return(), Err(Refusal::Busy), "another is inside");
    assert!(state.try_put(true));
    assert_eq!(state.holders().references, 1);
    state.condemn();
    assert_eq!(state.try_return(), Err(Refusal::Absent));
    assert!(state.has_returned());
    state.put(false);
    assert!(state.is_complete());
}

#[test]
fn orphans_are_complete_only_without_references() {
    let state = State::new();
    state.publish();
    assert_eq!(state.try_get(), Ok(()));
    state.orphan();
    assert!(!state.is_complete_orphan());
    assert_eq!(state.try_get(), Err(Refusal::Absent));
    state.put(true);
    assert!(state.is_complete_orphan());
}

#[test]
fn repair_keeps_what_is_ours() {
    let state = State::new();
    state.repair(0, false);
    assert_eq!(
        state.try_get(),
        Err(Refusal::Absent),
        "still not registered"
    );
    state.publish();
    assert_eq!(state.try_get(), Ok(()));
    state.leave();
    assert_eq!(state.try_get(), Ok(()));
    state.repair(1, true);
    assert_eq!(state.try_get(), Err(Refusal::Busy));
    state.repair(1, false);
    state.condemn();
    state.put(false);
    state.wait();
}
