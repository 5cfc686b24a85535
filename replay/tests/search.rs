//! Text is found in recordings that the recorder made, wherever it stood.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod made;

use std::ops::ControlFlow;

use made::{Made, exec, record, shell};
use sallyport_recorder::{SessionId, Stored};
use sallyport_replay::search::{Filter, Found, Meant, Place, Query, search};

fn stored(made: &Made) -> Stored {
    Stored { id: made.reel().reader().manifest().header.id, folder: made.folder.clone() }
}

/// Where `text` is found, and what could not be read.
fn find(
    recordings: &[Stored],
    filter: &Filter,
    text: &str,
    meant: Meant,
) -> (Vec<(SessionId, Place, String)>, Vec<String>) {
    let (mut hits, mut unreadable) = (Vec::new(), Vec::new());
    search(recordings.to_vec(), filter, &Query::new(text, meant).unwrap(), |found| {
        match found {
            Found::Hits(header, found) => {
                hits.extend(found.into_iter().map(|hit| (header.id, hit.place, hit.line)));
            }
            Found::Unreadable(_, why) => unreadable.push(why),
        }
        ControlFlow::Continue(())
    });
    hits.sort_by_key(|(_, place, line)| (place.to_string(), line.clone()));
    (hits, unreadable)
}

fn plain(recordings: &[Stored], text: &str) -> Vec<(Place, String)> {
    let (hits, unreadable) = find(recordings, &Filter::default(), text, Meant::default());
    assert!(unreadable.is_empty(), "{unreadable:?}");
    hits.into_iter().map(|(_, place, line)| (place, line)).collect()
}

async fn session() -> Made {
    let long = format!("{}middle{}\n", "x".repeat(50_000), "y".repeat(50_000));
    record(async |recording| {
        shell(recording, 0, &["$ rm ", "-rf /s", "rx\x08", "v\r\n", "\x1b[31mden\x1b[1mied\x1b[0m\r\n"]).await;
        exec(recording, 1, "cat /etc/motd", b"Welcome to web1\nlast line without end", b"no such file\n").await;
        exec(recording, 2, "base64", long.as_bytes(), b"").await;
    })
    .await
}

#[tokio::test]
async fn text_is_found_where_it_stood() {
    let made = session().await;
    let all = [stored(&made)];
    let hit = |place, line: &str| vec![(place, line.to_owned())];
    assert_eq!(plain(&all, "rm -rf /srv"), hit(Place::Terminal(0), "$ rm -rf /srv"), "typed in pieces");
    assert_eq!(plain(&all, "denied"), hit(Place::Terminal(0), "denied"), "coloured");
    assert_eq!(plain(&all, "to web1"), hit(Place::Stdout(1), "Welcome to web1"));
    assert_eq!(plain(&all, "without end"), hit(Place::Stdout(1), "last line without end"));
    assert_eq!(plain(&all, "no such"), hit(Place::Stderr(1), "no such file"));
    assert_eq!(plain(&all, "/etc/motd"), hit(Place::Event, "#1 exec cat /etc/motd"));
    let middle = plain(&all, "xmiddley");
    assert!(
        matches!(&middle[..], [(Place::Stdout(2), line)] if line.starts_with("…x") && line.ends_with("y…")),
        "{middle:?}"
    );
    assert_eq!(plain(&all, "nowhere"), []);
    assert_eq!(plain(&all, "WELCOME"), []);
    let any_case = find(&all, &Filter::default(), "WELCOME", Meant { any_case: true, regex: false }).0;
    assert_eq!(any_case.len(), 1);
    let regex = find(&all, &Filter::default(), r"^\$ rm .*/srv", Meant { any_case: false, regex: true }).0;
    assert_eq!(regex.len(), 1, "{regex:?}");
    assert!(
        Query::new("(", Meant { any_case: false, regex: true }).is_err() && Query::new("", Meant::default()).is_err()
    );
}

#[tokio::test]
async fn filters_leave_sessions_out() {
    let made = session().await;
    let all = [stored(&made)];
    let count = |filter: Filter| find(&all, &filter, "denied", Meant::default()).0.len();
    let begun = made.reel().reader().manifest().header.started;
    let minute = jiff::SignedDuration::from_mins(1);
    assert_eq!(count(Filter { caller: Some("alice@example.com".into()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { caller: Some("alice".into()), ..Filter::default() }), 0);
    assert_eq!(count(Filter { target: Some("web1".into()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { target: Some("web".into()), ..Filter::default() }), 0);
    assert_eq!(count(Filter { since: Some(begun), until: Some(begun + minute), ..Filter::default() }), 1);
    assert_eq!(count(Filter { since: Some(begun + minute), ..Filter::default() }), 0);
    assert_eq!(count(Filter { until: Some(begun), ..Filter::default() }), 0);
}

#[tokio::test]
async fn recordings_that_cannot_be_read_are_named_and_the_others_searched() {
    let (whole, damaged, gone) = (session().await, session().await, session().await);
    let all = [stored(&damaged), stored(&gone), stored(&whole)];
    let cast = damaged.folder.join("terminal-0.cast.zst");
    let mut bytes = std::fs::read(&cast).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    std::fs::write(&cast, bytes).unwrap();
    std::fs::remove_file(gone.folder.join("manifest.json")).unwrap();
    let (hits, unreadable) = find(&all, &Filter::default(), "Welcome", Meant::default());
    assert_eq!(hits.len(), 2, "what is whole of the damaged one is searched: {hits:?}");
    assert_eq!(unreadable.len(), 2, "{unreadable:?}");
    let text = unreadable.concat();
    assert!(text.contains("terminal-0.cast.zst is damaged") && text.contains("manifest.json"), "{text}");
}

#[tokio::test]
async fn whoever_has_enough_ends_the_search() {
    let made = session().await;
    let many = vec![stored(&made); 500];
    let mut seen = 0;
    search(many, &Filter::default(), &Query::new("Welcome", Meant::default()).unwrap(), |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!(seen, 1);
}
