//! What holds of every conversation, and of bytes that are none.

use proptest::prelude::*;

use super::*;

/// What a client does in one go.
#[derive(Debug, Clone)]
enum Act {
    /// A simple query of so many statements, of which one may fail.
    Simple(usize, Option<usize>),
    /// So many statements before one Sync, of which one may fail at one of its steps.
    Pipeline(usize, Option<(usize, u8)>),
}

fn act() -> impl Strategy<Value = Act> {
    let simple = (1_usize..4).prop_flat_map(|count| (Just(count), prop::option::of(0..count)));
    let pipeline = (1_usize..5).prop_flat_map(|count| (Just(count), prop::option::of((0..count, 0_u8..3))));
    prop_oneof![
        simple.prop_map(|(count, fails)| Act::Simple(count, fails)),
        pipeline.prop_map(|(count, fails)| Act::Pipeline(count, fails)),
    ]
}

/// What the client sends, what a server answers, and what has to be recorded of it.
fn conversation(act: &Act, number: usize) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let (mut sent, mut answered, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
    match act {
        Act::Simple(count, fails) => {
            let names: Vec<String> = (0..*count).map(|at| format!("Q{number}_{at}")).collect();
            sent.extend(query(&names.join("; ")));
            for (at, name) in names.iter().enumerate() {
                if *fails == Some(at) {
                    answered.extend(failure("XX000"));
                    recorded.push(format!("{name} → XX000 0"));
                    break;
                }
                answered.extend([rows(at), done(name)].concat());
                recorded.push(format!("{name} → {name} {at}"));
            }
        }
        Act::Pipeline(count, fails) => {
            let mut failed = false;
            for at in 0..*count {
                let name = format!("P{number}_{at}");
                sent.extend([parse("", &name), bind("", "", &[]), execute("")].concat());
                for step in 0..3_u8 {
                    if failed {
                        continue;
                    }
                    failed = *fails == Some((at, step));
                    match step {
                        _ if failed => {
                            answered.extend(failure("XX000"));
                            recorded.push(format!("{name} → XX000 0"));
                        }
                        2 => {
                            answered.extend([rows(1), done(&name)].concat());
                            recorded.push(format!("{name} → {name} 1"));
                        }
                        step => answered.extend(bare(if step == 0 { b"1" } else { b"2" })),
                    }
                }
            }
            sent.extend(sync());
        }
    }
    answered.extend(ready(b'I'));
    (sent, answered, recorded)
}

proptest! {
    /// However far the client runs ahead of the answers.
    #[test]
    fn every_statement_is_recorded_once_and_in_order(acts in prop::collection::vec(act(), 1..12), ahead in 0_usize..12) {
        let mut session = Session::new();
        let mut expected = Vec::new();
        let mut waiting = VecDeque::new();
        for (number, act) in acts.iter().enumerate() {
            let (sent, answered, recorded) = conversation(act, number);
            session.client(&sent);
            waiting.push_back(answered);
            expected.extend(recorded);
            if waiting.len() > ahead {
                session.server(&waiting.pop_front().unwrap());
            }
        }
        for answered in waiting {
            session.server(&answered);
        }
        prop_assert_eq!(session.told(), expected);
        prop_assert_eq!(session.observer.ready_due, 0);
        prop_assert!(session.observer.pending.is_empty());
    }

    #[test]
    fn no_bytes_of_either_side_do_any_harm(
        frames in prop::collection::vec((any::<bool>(), prop::sample::select(b"QPBEDCSFHXdcfp123tTnDCIsGHWVNAEZKR\x00".to_vec()), prop::collection::vec(any::<u8>(), 0..40), any::<u16>()), 0..200)
    ) {
        let mut session = Session::new();
        for (client, tag, head, more) in &frames {
            let length = u32::try_from(head.len()).unwrap() + u32::from(*more % 3);
            let frame = Frame { tag: *tag, length, head };
            if *client {
                session.observer.client_sent(session.at, frame, &mut session.events);
                session.observer.client_sent_more(head);
            } else {
                session.observer.server_sent(session.at, frame, &mut session.events);
            }
        }
        let at = session.at;
        session.observer.finish(at, &mut session.events);
        prop_assert!(session.observer.pending.is_empty());
    }
}
