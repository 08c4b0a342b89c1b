use ebb_shrinker::{Count, Scan, Shrink, ShrinkControl, Shrinker, ShrinkerList};

use super::*;

#[test]
fn a_stake_is_spent_first_and_given_up_at_the_end() {
    static ACCOUNT: Account = Account::new();
    ACCOUNT.set(Some(100));
    assert!(ACCOUNT.charge(100, None, false).is_some());
    let stake = Stake::new(&ACCOUNT, None, true);
    ACCOUNT.release(60, Some(&stake));
    assert_eq!(ACCOUNT.backed(), 100, "still charged");
    assert!(ACCOUNT.charge(1, None, false).is_none(), "for nobody else");
    assert!(ACCOUNT.charge(70, Some(&stake), true).is_none());
    assert_eq!((stake.lacking(), stake.is_hopeless()), (10, false));
    assert!(ACCOUNT.charge(101, Some(&stake), true).is_none() && stake.is_hopeless());
    assert!(ACCOUNT.charge(50, Some(&stake), true).is_some());
    ACCOUNT.held.fetch_add(5, Ordering::Relaxed);
    ACCOUNT.forget_other_threads(Some(&stake));
    assert_eq!(ACCOUNT.backed(), 95);
    drop(stake);
    assert_eq!(ACCOUNT.backed(), 85);
    assert!(ACCOUNT.charge(15, None, false).is_some());
}

struct Nothing;

impl Shrink for Nothing {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::Empty
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Stop
    }
}

/// What is set aside on a node, of a list that lives for ever.
fn common() -> Option<&'static Credit> {
    let list: &'static ShrinkerList = Box::leak(Box::default());
    let registration = Shrinker::new("nothing").register(list, Nothing).unwrap();
    drop(registration);
    assert!(list.credit_on(ebb_shrinker::MAX_NODES).is_none());
    list.credit_on(3)
}

/// Seen to fail with what is handed over given back at once, with what was taken left in the charge, and with what a stake
/// leaves given up.
#[test]
fn what_is_common_is_for_those_in_flight() {
    static ACCOUNT: Account = Account::new();
    ACCOUNT.set(Some(100));
    assert!(ACCOUNT.charge(100, None, false).is_some());
    ACCOUNT.hand_over(10);
    assert_eq!(ACCOUNT.backed(), 90, "nobody was in flight");
    let common = common();
    let [one, two] = [(); 2].map(|()| Stake::new(&ACCOUNT, common, true));
    ACCOUNT.hand_over(40);
    assert_eq!(ACCOUNT.backed(), 90, "still charged");
    assert!(ACCOUNT.charge(11, None, false).is_none(), "for nobody else");
    assert!(ACCOUNT.charge(51, Some(&one), true).is_none());
    assert_eq!((one.lacking(), common.unwrap().bytes()), (41, 40));
    assert!(ACCOUNT.charge(30, Some(&one), true).is_some());
    assert_eq!((ACCOUNT.backed(), common.unwrap().bytes()), (100, 20));
    assert!(
        ACCOUNT.charge(5, None, true).is_some(),
        "who has no stake here"
    );
    ACCOUNT.release(25, Some(&one));
    drop(one);
    assert_eq!((ACCOUNT.backed(), common.unwrap().bytes()), (100, 40));
    drop(two);
    assert_eq!(ACCOUNT.backed(), 60, "the last one gives up what is left");
}

/// Seen to fail with the claims of others left.
#[test]
fn a_forked_child_gives_up_what_is_common_to_others() {
    static ACCOUNT: Account = Account::new();
    ACCOUNT.set(Some(100));
    assert!(ACCOUNT.charge(100, None, false).is_some());
    let common = common();
    let [own, absent] = [(); 2].map(|()| Stake::new(&ACCOUNT, common, true));
    ACCOUNT.hand_over(10);
    ACCOUNT.forget_other_threads(Some(&own));
    std::mem::forget(absent);
    drop(own);
    assert_eq!(ACCOUNT.backed(), 90);
    std::mem::forget(Stake::new(&ACCOUNT, common, true));
    ACCOUNT.hand_over(10);
    ACCOUNT.forget_other_threads(None);
    assert_eq!(ACCOUNT.backed(), 80);
}

/// Seen to fail with a claim in any case.
#[test]
fn where_there_is_no_budget_nothing_is_set_aside() {
    static ACCOUNT: Account = Account::new();
    assert!(ACCOUNT.charge(100, None, false).is_some());
    let common = common();
    let stake = Stake::new(&ACCOUNT, common, true);
    assert_eq!(common.unwrap().claims(), 0);
    ACCOUNT.hand_over(100);
    assert_eq!(ACCOUNT.backed(), 0);
    drop(stake);
}

/// Seen to fail with all of it given to the stake, and with nothing.
#[test]
fn what_is_undone_is_as_it_was() {
    static ACCOUNT: Account = Account::new();
    ACCOUNT.set(Some(100));
    assert!(ACCOUNT.charge(60, None, false).is_some());
    let common = common();
    let stake = Stake::new(&ACCOUNT, common, true);
    ACCOUNT.release(20, Some(&stake));
    let paid = ACCOUNT.charge(50, Some(&stake), true);
    assert_eq!((paid, ACCOUNT.backed()), (Some(20), 90));
    ACCOUNT.undo(50, 20, Some(&stake));
    assert_eq!(ACCOUNT.backed(), 60);
    assert!(ACCOUNT.charge(41, None, false).is_none(), "still a stake");
    assert!(ACCOUNT.charge(60, Some(&stake), true).is_some());
    ACCOUNT.hand_over(10);
    let paid = ACCOUNT.charge(8, None, true);
    assert_eq!((paid, common.unwrap().bytes()), (Some(8), 2));
    ACCOUNT.undo(8, 8, None);
    assert_eq!((ACCOUNT.backed(), common.unwrap().bytes()), (100, 10));
}
