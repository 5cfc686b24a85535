//! The player fed with keys and a made-up time: nothing here sleeps.

use std::cell::Cell;
use std::rc::Rc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::moment::Change;

/// A session made by a test; counts how many moments were read from it.
#[derive(Clone, Default)]
struct Session {
    moments: Vec<Moment>,
    length: Duration,
    read: Rc<Cell<usize>>,
}

impl Source for Session {
    type Moments = std::vec::IntoIter<Result<Moment, Failure>>;
    type Events = std::vec::IntoIter<Result<Duration, Failure>>;

    fn moments(&self, from: Duration) -> Result<Self::Moments, Failure> {
        let from: Vec<_> = self.moments.iter().filter(|moment| moment.at >= from).cloned().map(Ok).collect();
        self.read.set(self.read.get() + from.len());
        Ok(from.into_iter())
    }

    fn events(&self) -> Result<Self::Events, Failure> {
        let noted = self.moments.iter().filter(|moment| matches!(moment.change, Change::Noted(_)));
        Ok(noted.map(|moment| Ok(moment.at)).collect::<Vec<_>>().into_iter())
    }

    fn length(&self) -> Duration {
        self.length
    }
}

impl Session {
    fn terminal(mut self, terminal: u32, columns: u16, rows: u16) -> Self {
        self.moments.push(Moment { at: Duration::ZERO, change: Change::Opened { terminal, columns, rows } });
        self
    }

    fn print(mut self, at: f64, terminal: u32, text: &str) -> Self {
        let change = Change::Printed { terminal, text: text.to_owned() };
        self.moments.push(Moment { at: Duration::from_secs_f64(at), change });
        self
    }

    fn note(mut self, at: f64, text: &str) -> Self {
        self.moments.push(Moment { at: Duration::from_secs_f64(at), change: Change::Noted(text.to_owned()) });
        self
    }

    fn play(mut self, length: f64) -> Player<Self> {
        self.length = Duration::from_secs_f64(length);
        Player::new(self, Options::default(), Duration::ZERO).unwrap()
    }
}

/// One letter each second, a to j.
fn letters() -> Session {
    let letters = ('a'..='j').enumerate();
    letters.fold(Session::default().terminal(0, 20, 3), |session, (second, letter)| {
        session.print(f64::from(u32::try_from(second).unwrap() + 1), 0, &letter.to_string())
    })
}

fn shown(player: &Player<Session>) -> String {
    let View::Terminal(id) = player.view() else { return "timeline".to_owned() };
    player.stage().terminal(id).unwrap().screen().text().join("\n").trim_end().to_owned()
}

fn tick(player: &mut Player<Session>, seconds: f64) {
    player.tick(Duration::from_secs_f64(seconds)).unwrap();
}

fn press(player: &mut Player<Session>, code: KeyCode) {
    press_with(player, code, KeyModifiers::NONE);
}

fn press_with(player: &mut Player<Session>, code: KeyCode, modifiers: KeyModifiers) {
    let Some(Key::Act(action)) = action(KeyEvent::new(code, modifiers)) else { panic!("{code:?} does nothing") };
    player.act(action).unwrap();
}

fn at(player: &Player<Session>) -> f64 {
    player.position().as_secs_f64()
}

#[test]
fn plays_at_the_pace_of_the_session_to_its_end() {
    let mut player = letters().play(12.0);
    tick(&mut player, 0.9);
    assert_eq!(shown(&player), "");
    assert_eq!(player.rest(), Some(Duration::from_millis(100)));
    tick(&mut player, 3.5);
    assert_eq!(shown(&player), "abc");
    tick(&mut player, 11.0);
    assert_eq!((shown(&player).as_str(), player.mode()), ("abcdefghij", Mode::Playing));
    tick(&mut player, 12.5);
    assert_eq!((at(&player), player.mode(), player.rest()), (12.0, Mode::Ended, None));
    press(&mut player, KeyCode::Char(' '));
    assert_eq!((shown(&player).as_str(), at(&player), player.mode()), ("", 0.0, Mode::Playing));
}

#[test]
fn pause_stops_time_and_step_shows_one_moment() {
    let mut player = letters().play(12.0);
    tick(&mut player, 2.5);
    press(&mut player, KeyCode::Char(' '));
    tick(&mut player, 60.0);
    assert_eq!((shown(&player).as_str(), player.rest()), ("ab", None));
    press(&mut player, KeyCode::Char('.'));
    assert_eq!((shown(&player).as_str(), at(&player), player.mode()), ("abc", 3.0, Mode::Paused));
    press(&mut player, KeyCode::Char(' '));
    tick(&mut player, 61.0);
    assert_eq!(shown(&player), "abcd");
}

#[test]
fn a_pause_never_lets_the_time_pass_that_it_took() {
    let mut player = letters().play(12.0);
    press(&mut player, KeyCode::Char(' '));
    tick(&mut player, 100.0);
    press(&mut player, KeyCode::Char(' '));
    tick(&mut player, 100.5);
    assert!((at(&player) - 0.5).abs() < 1e-6, "{}", at(&player));
}

#[test]
fn keys_seek_near_far_and_to_tenths() {
    let mut player = letters().play(200.0);
    tick(&mut player, 8.0);
    let rows = [
        (KeyCode::Left, KeyModifiers::NONE, 3.0, "abc"),
        (KeyCode::Right, KeyModifiers::NONE, 8.0, "abcdefgh"),
        (KeyCode::Right, KeyModifiers::SHIFT, 68.0, "abcdefghij"),
        (KeyCode::PageDown, KeyModifiers::NONE, 128.0, "abcdefghij"),
        (KeyCode::PageUp, KeyModifiers::NONE, 68.0, "abcdefghij"),
        (KeyCode::Left, KeyModifiers::SHIFT, 8.0, "abcdefgh"),
        (KeyCode::Char('5'), KeyModifiers::NONE, 100.0, "abcdefghij"),
        (KeyCode::Char('0'), KeyModifiers::NONE, 0.0, ""),
        (KeyCode::Left, KeyModifiers::NONE, 0.0, ""),
        (KeyCode::End, KeyModifiers::NONE, 200.0, "abcdefghij"),
        (KeyCode::Right, KeyModifiers::NONE, 200.0, "abcdefghij"),
    ];
    for (key, modifiers, position, text) in rows {
        press_with(&mut player, key, modifiers);
        assert_eq!((at(&player), shown(&player).as_str()), (position, text), "{key:?} {modifiers:?}");
    }
    assert_eq!(player.mode(), Mode::Ended);
    press(&mut player, KeyCode::Left);
    assert_eq!((at(&player), player.mode()), (195.0, Mode::Paused));
}

#[test]
fn brackets_jump_between_events() {
    let session = letters().note(2.5, "#0 exec ls").note(4.5, "#0 exit 0");
    let mut session = session;
    session.moments.sort_by_key(|moment| moment.at);
    let mut player = session.play(12.0);
    for (key, position) in [(']', 2.5), (']', 4.5), (']', 4.5), ('[', 2.5), ('[', 2.5)] {
        press(&mut player, KeyCode::Char(key));
        assert_eq!(at(&player), position, "{key}");
    }
    assert_eq!(shown(&player), "ab");
}

#[test]
fn speed_doubles_and_halves_within_limits() {
    let mut player = letters().play(12.0);
    press(&mut player, KeyCode::Char('+'));
    press(&mut player, KeyCode::Char('+'));
    tick(&mut player, 1.0);
    assert_eq!(shown(&player), "abcd");
    for _ in 0..40 {
        press(&mut player, KeyCode::Char('-'));
    }
    assert_eq!(player.status().speed, 1.0 / 16.0);
    for options in [f64::NAN, f64::INFINITY] {
        let options = Options { speed: options, ..Options::default() };
        let player = Player::new(letters(), options, Duration::ZERO).unwrap();
        assert_eq!(player.status().speed, 1.0);
    }
}

#[test]
fn the_idle_limit_cuts_long_pauses_only() {
    let session = Session::default().terminal(0, 20, 3).print(1.0, 0, "a").print(601.0, 0, "b").print(602.0, 0, "c");
    let options = Options { idle_limit: Some(Duration::from_secs(2)), ..Options::default() };
    let session = Session { length: Duration::from_secs(3600), ..session };
    let mut player = Player::new(session, options, Duration::ZERO).unwrap();
    tick(&mut player, 2.9);
    assert_eq!((shown(&player).as_str(), at(&player)), ("a", 2.9));
    tick(&mut player, 3.1);
    assert_eq!(shown(&player), "ab");
    assert!((at(&player) - 601.1).abs() < 1e-6, "{}", at(&player));
    tick(&mut player, 4.1);
    assert_eq!(shown(&player), "abc");
    tick(&mut player, 7.0);
    assert_eq!((player.mode(), at(&player)), (Mode::Ended, 3600.0));
}

#[test]
fn tab_goes_through_the_terminals_and_the_timeline() {
    let session = Session::default().terminal(0, 20, 3).terminal(1, 20, 3);
    let mut player = session.print(1.0, 0, "first").print(1.0, 1, "second").note(1.0, "#2 exec id").play(5.0);
    assert_eq!(player.view(), View::Timeline);
    tick(&mut player, 2.0);
    assert_eq!(shown(&player), "first");
    press(&mut player, KeyCode::Tab);
    assert_eq!(shown(&player), "second");
    press(&mut player, KeyCode::Tab);
    assert_eq!(player.view(), View::Timeline);
    assert_eq!(player.stage().timeline().collect::<Vec<_>>(), [" 0:01.000  #2 exec id"]);
    press(&mut player, KeyCode::Tab);
    assert_eq!(shown(&player), "first");
    press(&mut player, KeyCode::BackTab);
    assert_eq!(player.view(), View::Timeline);
}

/// Half a megabyte a second for a minute, each second with its own line and colours.
fn long() -> Session {
    let filler = "\x1b[32mfiller\x1b[0m and more of it\r\n".repeat(16_384);
    (1..=60).fold(Session::default().terminal(0, 40, 6), |session, second| {
        session.print(f64::from(second), 0, &format!("{filler}second {second}\x1b[7m!"))
    })
}

fn settle(player: &mut Player<Session>) {
    for _ in 0..10_000 {
        if player.status().seeking.is_none() {
            return;
        }
        player.tick(Duration::ZERO).unwrap();
    }
    panic!("the seek never ends");
}

#[test]
fn a_seek_back_shows_what_playing_there_shows_and_reads_only_a_part_again() {
    let mut player = long().play(60.0);
    press(&mut player, KeyCode::End);
    assert!(player.status().seeking.is_some(), "a long seek leaves room for keys");
    settle(&mut player);
    let read = Rc::clone(&player.source.read);
    assert!(player.keyframes.bytes() < 1024 * 1024);
    for tenth in ['7', '2', '9', '4'] {
        let before = read.get();
        press(&mut player, KeyCode::Char(tenth));
        settle(&mut player);
        let target = tenth.to_digit(10).unwrap() * 6;
        let mut straight = long().play(60.0);
        straight.seek(Duration::from_secs(u64::from(target))).unwrap();
        settle(&mut straight);
        assert_eq!(shown(&player), shown(&straight), "{tenth}");
        straight.mode = player.mode();
        assert_eq!(
            Frame::of(&player, "", false, (80, 24)).draw_all(),
            Frame::of(&straight, "", false, (80, 24)).draw_all(),
            "styles at {tenth}"
        );
        let again = read.get() - before - long().moments.iter().filter(|m| m.at.as_secs() > u64::from(target)).count();
        assert!(again <= 4, "{again} moments were played again for {tenth}");
    }
}

#[test]
fn five_presses_are_five_jumps_even_while_seeking() {
    let mut player = long().play(60.0);
    for _ in 0..5 {
        press(&mut player, KeyCode::Right);
    }
    settle(&mut player);
    assert_eq!(at(&player), 25.0);
}

impl Frame {
    fn draw_all(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.draw(None, &mut bytes).unwrap();
        bytes
    }
}

/// What a viewer's terminal of this size shows after a frame.
fn viewed(player: &Player<Session>, columns: u16, rows: u16) -> avt::Terminal {
    let mut terminal = avt::Terminal::new(columns.into(), rows.into()).unwrap();
    let bytes = Frame::of(player, "web1 · alice@example.com", false, (columns, rows)).draw_all();
    terminal.feed(std::str::from_utf8(&bytes).unwrap());
    terminal
}

fn line(terminal: &avt::Terminal, row: usize) -> String {
    terminal.screen().line(row).unwrap().text().trim_end().to_owned()
}

#[test]
fn draws_cells_and_styles_as_they_were() {
    let text = "plain \x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3;48;5;200;4mrgb\x1b[0m 日本 e\u{301}x\r\n\x1b[7mbar";
    let mut player = Session::default().terminal(0, 30, 3).print(0.0, 0, text).play(1.0);
    tick(&mut player, 0.1);
    let viewed = viewed(&player, 30, 4);
    let recorded = player.stage().terminal(0).unwrap();
    for row in 0..3 {
        let (ours, theirs) = (viewed.screen().line(row).unwrap(), recorded.screen().line(row).unwrap());
        for (column, (ours, theirs)) in ours.cells().iter().zip(theirs.cells()).enumerate() {
            if theirs.char() == '\u{301}' {
                break;
            }
            assert_eq!(ours, theirs, "row {row}, column {column}");
        }
    }
    assert_eq!(viewed.cursor().position(), Some((3, 1)));
    assert!(line(&viewed, 3).contains("▶ 0:00 / 0:01  1×"), "{}", line(&viewed, 3));
}

#[test]
fn a_smaller_window_shows_the_part_with_the_cursor() {
    let text = "top\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nbottom $ ";
    let mut player =
        Session::default().terminal(0, 80, 10).print(0.0, 0, text).print(1.0, 0, "\x1b[1;70Hright").play(9.0);
    tick(&mut player, 0.5);
    let viewed_before = viewed(&player, 76, 5);
    assert_eq!(line(&viewed_before, 3), "bottom $");
    assert!(line(&viewed_before, 4).contains("76×4 of 80×10"), "{}", line(&viewed_before, 4));
    tick(&mut player, 1.5);
    let viewed_after = viewed(&player, 20, 5);
    assert_eq!(line(&viewed_after, 0).trim_start(), "right");
    for (columns, rows) in [(1, 1), (1, 2), (2, 1), (0, 0)] {
        Frame::of(&player, "web1", false, (columns, rows)).draw_all();
    }
}

#[test]
fn nothing_a_target_prints_acts_on_the_viewers_terminal() {
    let hostile = "\x1b]52;c;cm0gLXJm\x07\x1b]0;title\x07\x1bPq#0\x1b\\\x1b[6n\x1b[c\x1b[?1000h\x1b]8;;http://x/\x07link\
                   \u{9b}5n\u{9d}0;x\u{9c}\x1b[?2004h\x1b_payload\x1b\\\x1b#8\x7f\u{202e}\x05\x1b[20t\x1bc\x1b[>4;2m";
    let session = Session::default().terminal(0, 40, 5).print(0.0, 0, hostile).note(0.0, hostile);
    let mut player = session.play(1.0);
    tick(&mut player, 0.1);
    for view in [View::Terminal(0), View::Timeline] {
        player.view = Some(view);
        let bytes = Frame::of(&player, hostile, false, (200, 20)).draw_all();
        let drawn = std::str::from_utf8(&bytes).unwrap();
        let mut rest = drawn.chars();
        while let Some(c) = rest.next() {
            if c == '\x1b' {
                assert_eq!(rest.next(), Some('['), "an escape sequence other than CSI in {drawn:?}");
                let sequence: String = rest.by_ref().take_while(|c| !c.is_ascii_alphabetic()).collect();
                let harmless = |c: char| c.is_ascii_digit() || c == ';' || c == '?';
                assert!(sequence.chars().all(harmless), "{sequence:?}");
            } else {
                assert!(!c.is_control() && !matches!(c, '\u{202e}'), "{c:?} in {drawn:?}");
            }
        }
        assert!(!drawn.contains("\x1b[6n") && !drawn.contains("\x1b[?1000h") && !drawn.contains("\x1b[c"));
    }
}

#[test]
fn draws_only_what_changed() {
    let mut player = letters().play(12.0);
    tick(&mut player, 1.0);
    let first = Frame::of(&player, "web1", false, (80, 24));
    assert!(first.draw_all().len() > 100);
    let mut nothing = Vec::new();
    Frame::of(&player, "web1", false, (80, 24)).draw(Some(&first), &mut nothing).unwrap();
    assert!(nothing.is_empty());
    tick(&mut player, 2.0);
    let mut change = Vec::new();
    Frame::of(&player, "web1", false, (80, 24)).draw(Some(&first), &mut change).unwrap();
    let change = String::from_utf8(change).unwrap();
    assert!(
        change.contains("ab") && !change.contains("\x1b[2J") && change.matches("\x1b[2K").count() == 2,
        "{change:?}"
    );
}

#[test]
fn a_terminal_of_monstrous_size_costs_no_monstrous_memory() {
    let mut player = Session::default().terminal(0, u16::MAX, u16::MAX).terminal(1, 0, 0).print(0.0, 1, "x").play(1.0);
    tick(&mut player, 0.1);
    let (columns, rows) = player.stage().terminal(0).unwrap().size();
    assert!(columns * rows <= 400_000, "{columns}×{rows}");
    assert_eq!(player.stage().terminal(1).unwrap().size(), (80, 24));
}
