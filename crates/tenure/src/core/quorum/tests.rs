use super::*;

const TTL: Duration = Duration::from_secs(30);
const SENT: Moment = Moment(1_000_000_000_000);

fn token(n: i64) -> Token {
    Token::new(n).expect("positive")
}

fn locked(floor: i64) -> Vote {
    Vote::Locked { floor: Token::new(floor) }
}

fn denied_by(rival: u64, floor: i64, secs: u64) -> Vote {
    Vote::Denied { floor: Token::new(floor), left: Duration::from_secs(secs), rival }
}

/// A ballot about token 100, with these answers of the first servers.
fn ballot(servers: usize, votes: &[Vote]) -> Ballot {
    let quorum = Quorum::majority(servers).expect("servers");
    let mut ballot = Ballot::new(quorum, token(100), SENT, TTL);
    for (server, vote) in votes.iter().enumerate() {
        ballot.hear(server, *vote);
    }
    ballot
}

fn early(ballot: &mut Ballot) -> Step {
    ballot.decide(SENT, false)
}

fn late(ballot: &mut Ballot) -> Step {
    ballot.decide(SENT, true)
}

#[test]
fn two_quorums_share_a_server() {
    assert_eq!(Quorum::new(3, 1), None);
    assert_eq!(Quorum::new(4, 2), None);
    assert_eq!(Quorum::new(3, 4), None);
    assert_eq!(Quorum::new(0, 0), None);
    assert_eq!(Quorum::majority(0), None);
    for (servers, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        let quorum = Quorum::majority(servers).expect("servers");
        assert_eq!((quorum.servers(), quorum.needed()), (servers, needed));
    }
    assert!(Quorum::new(5, 5).is_some());
}

#[test]
fn a_quorum_that_accepts_grants_in_one_round_trip() {
    let mut ballot = ballot(3, &[Vote::Accepted]);
    assert_eq!(early(&mut ballot), Step::Wait);
    ballot.hear(2, Vote::Accepted);
    assert_eq!(early(&mut ballot), Step::Granted { token: token(100) });
    assert_eq!(ballot.unaware(), [1]);
    assert_eq!(ballot.decide(ballot.deadline(), false), Step::GiveUp { look_again: None });
}

#[test]
fn votes_without_the_token_need_a_higher_one() {
    let mut ballot = ballot(3, &[Vote::Accepted, locked(500)]);
    assert_eq!(early(&mut ballot), Step::Wait, "the third may still accept");
    assert_eq!(late(&mut ballot.clone()), Step::Promote { token: token(501), to: vec![0, 1, 2] });
    ballot.hear(2, denied_by(7, 900, 3));
    assert_eq!(early(&mut ballot), Step::Promote { token: token(901), to: vec![0, 1] });
    ballot.hear_promotion(0, true);
    assert_eq!(early(&mut ballot), Step::Wait);
    ballot.hear_promotion(1, true);
    assert_eq!(early(&mut ballot), Step::Granted { token: token(901) });
    assert_eq!(ballot.unaware(), [2]);
    assert_eq!(ballot.floor(), Some(token(900)));
}

#[test]
fn a_promotion_that_a_quorum_refuses_or_leaves_open_is_given_up() {
    let mut refused = ballot(3, &[locked(5), locked(5), locked(5)]);
    assert!(matches!(early(&mut refused), Step::Promote { .. }));
    let mut open = refused.clone();
    open.hear_promotion(0, true);
    assert_eq!(early(&mut open), Step::Wait);
    assert_eq!(late(&mut open), Step::GiveUp { look_again: None });
    refused.hear_promotion(0, false);
    refused.hear_promotion(1, false);
    assert_eq!(early(&mut refused), Step::GiveUp { look_again: None });
}

#[test]
fn an_absurd_proposal_that_nobody_accepted_raises_no_token() {
    let quorum = Quorum::majority(3).expect("servers");
    let mut ballot = Ballot::new(quorum, token(i64::MAX), SENT, TTL);
    for server in 0..3 {
        ballot.hear(server, locked(40));
    }
    assert_eq!(early(&mut ballot), Step::Promote { token: token(41), to: vec![0, 1, 2] });
}

#[test]
fn there_is_no_token_past_the_last() {
    let mut ballot = ballot(3, &[locked(i64::MAX), locked(1), locked(1)]);
    assert_eq!(early(&mut ballot), Step::Exhausted);
    assert_eq!(proposal(Token::new(i64::MAX), 5), None);
}

#[test]
fn a_holder_is_waited_for_until_enough_of_its_votes_expire() {
    let by_one = [denied_by(7, 1, 9), denied_by(7, 1, 4), denied_by(7, 1, 6)];
    assert_eq!(
        early(&mut ballot(3, &by_one[..2])),
        Step::GiveUp { look_again: Some(Duration::from_secs(9)) }
    );
    assert_eq!(early(&mut ballot(3, &by_one)), Step::GiveUp { look_again: Some(Duration::from_secs(6)) });
    let with_ours = [Vote::Accepted, by_one[0], by_one[1]];
    assert_eq!(early(&mut ballot(3, &with_ours)), Step::GiveUp { look_again: Some(Duration::from_secs(4)) });
}

#[test]
fn split_votes_and_missing_servers_are_tried_again_soon() {
    let split = [Vote::Accepted, denied_by(7, 1, 9), denied_by(8, 1, 9)];
    assert_eq!(early(&mut ballot(3, &split)), Step::GiveUp { look_again: None });
    let missing = [Vote::Accepted, Vote::Abstained, Vote::Abstained];
    assert_eq!(early(&mut ballot(3, &missing)), Step::GiveUp { look_again: None });
    let perhaps = [denied_by(7, 1, 9), Vote::Abstained, Vote::Abstained];
    assert_eq!(early(&mut ballot(3, &perhaps)), Step::GiveUp { look_again: Some(Duration::from_secs(9)) });
    assert_eq!(late(&mut ballot(5, &[])), Step::GiveUp { look_again: None });
}

#[test]
fn of_two_answers_of_a_server_the_better_one_counts() {
    let mut ballot = ballot(3, &[Vote::Accepted]);
    ballot.hear(0, Vote::Abstained);
    ballot.hear(0, locked(3));
    ballot.hear(1, Vote::Abstained);
    ballot.hear(1, Vote::Accepted);
    ballot.hear(9, Vote::Accepted);
    assert_eq!(early(&mut ballot), Step::Granted { token: token(100) });
}

#[test]
fn proposals_grow_whatever_the_wall_clock_says() {
    assert_eq!(proposal(None, 0), Some(token(1)));
    assert_eq!(proposal(None, 70), Some(token(70)));
    assert_eq!(proposal(Some(token(90)), 70), Some(token(91)));
    assert_eq!(proposal(Some(token(9)), 70), Some(token(70)));
}

#[test]
fn a_poll_is_decided_by_a_quorum_and_fails_without_hope_of_one() {
    let mut poll = Poll::new(Quorum::majority(5).expect("servers"));
    for (server, yes, tally) in [
        (0, true, Tally::Open),
        (1, false, Tally::Open),
        (2, false, Tally::Open),
        (1, true, Tally::Open),
        (1, false, Tally::Open),
        (3, true, Tally::Decided),
        (4, false, Tally::Decided),
    ] {
        poll.hear(server, yes);
        assert_eq!(poll.tally(), tally, "after server {server}");
    }
    let mut poll = Poll::new(Quorum::majority(3).expect("servers"));
    poll.hear(0, false);
    poll.hear(1, false);
    assert_eq!(poll.tally(), Tally::Failed);
}

#[test]
fn a_quarantine_outlasts_every_belief_and_every_token() {
    assert!(quarantine(TTL) > TTL);
    assert!(quarantine(Duration::from_millis(100)) > FLOOR_LAG + CLOCK_ERROR);
}
