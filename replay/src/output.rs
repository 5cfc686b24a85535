//! What commands without a terminal write, as lines of the timeline.

use std::collections::BTreeMap;

use crate::harmless;
use crate::moment::Stream;
use crate::text::Lines;

/// The lines that commands have begun and not ended.
#[derive(Clone, Default)]
pub(crate) struct Begun(BTreeMap<(u32, Stream), Lines>);

impl Begun {
    /// Takes what a command wrote and hands out each line that it completes, harmless.
    pub(crate) fn feed(&mut self, channel: u32, stream: Stream, bytes: &[u8], mut each: impl FnMut(&str)) {
        let mut lines = self.0.remove(&(channel, stream)).unwrap_or_default();
        lines.feed(bytes, |line| each(&output_line(channel, stream, line)));
        if !lines.is_empty() {
            self.0.insert((channel, stream), lines);
        }
        // The oldest channels are the least likely to end their lines.
        while self.0.len() > MOST
            && let Some(((channel, stream), lines)) = self.0.pop_first()
        {
            lines.finish().iter().for_each(|line| each(&output_line(channel, stream, line)));
        }
    }

    /// The lines that were left without an end.
    pub(crate) fn finish(self) -> impl Iterator<Item = String> {
        let line = |((channel, stream), lines): (_, Lines)| Some(output_line(channel, stream, &lines.finish()?));
        self.0.into_iter().filter_map(line)
    }

    /// Roughly how many bytes this holds.
    pub(crate) fn size(&self) -> usize {
        self.0.values().map(Lines::len).sum()
    }
}

/// A line of a command's output as the timeline shows it.
pub(crate) fn output_line(channel: u32, stream: Stream, line: &str) -> String {
    let mark = match stream {
        Stream::Stdout => "│",
        Stream::Stderr => "┃",
    };
    format!("  #{channel} {mark} {}", harmless::line(line))
}

/// Lines without an end that are kept: as many as a connection may have channels, twice over.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_end_of_channels_without_end_are_bounded() {
        let (mut begun, mut lines) = (Begun::default(), Vec::new());
        for channel in 0..2_000 {
            begun.feed(channel, Stream::Stdout, b"whole\nbegun", |line| lines.push(line.to_owned()));
        }
        assert_eq!((begun.0.len(), begun.size()), (MOST, MOST * 5));
        assert_eq!(lines.len(), 2_000 + 2_000 - MOST);
        assert_eq!(lines.last().map(String::as_str), Some("  #1743 │ begun"));
        begun.feed(1_999, Stream::Stdout, b" and ended\n", |line| lines.push(line.to_owned()));
        assert_eq!(lines.last().map(String::as_str), Some("  #1999 │ begun and ended"));
        assert_eq!(begun.finish().count(), MOST - 1);
    }
}
