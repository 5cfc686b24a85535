//! Bound values as text. Formats: PostgreSQL's `*send` and `*recv` functions in `src/backend/utils/adt`.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use jiff::civil::DateTime;
use jiff::{SignedDuration, Span};
use sallyport_policies::ParameterRule;
use sallyport_recorder::Parameter;

use super::bind::{Raw, VALUE_MAX};
use super::sql::cut;

/// A value as it is recorded. `oid` is its type, 0 where it is not known.
pub(super) fn parameter(raw: &Raw, oid: u32, rule: ParameterRule) -> Parameter {
    let kind = match name(oid) {
        Some(name) => name.to_owned(),
        None if oid == 0 => String::new(),
        None => oid.to_string(),
    };
    let Some(bytes) = &raw.bytes else { return Parameter { kind, value: None, bytes: None } };
    if rule == ParameterRule::Hide {
        return Parameter { kind, value: None, bytes: Some(raw.length) };
    }
    let whole = u64::try_from(bytes.len()).is_ok_and(|seen| seen == raw.length);
    let decoded = if raw.binary { binary(oid, bytes, whole) } else { None };
    let text = decoded.unwrap_or_else(|| {
        if raw.binary { format!("\\x{}", HEXLOWER.encode(bytes)) } else { String::from_utf8_lossy(bytes).into_owned() }
    });
    let shown = cut(&text, 2 * VALUE_MAX + 2).len();
    let all = whole && shown == text.len();
    let mut value = text;
    value.truncate(shown);
    Parameter { kind, value: Some(value), bytes: (!all).then_some(raw.length) }
}

/// The text of a binary value of a type that is known. Of one that was cut only those types are shown whose front means
/// something.
fn binary(oid: u32, bytes: &[u8], whole: bool) -> Option<String> {
    match oid {
        TEXT | VARCHAR | BPCHAR | NAME | JSON | XML | UNKNOWN => Some(String::from_utf8_lossy(bytes).into_owned()),
        JSONB => bytes.strip_prefix(&[1]).map(|text| String::from_utf8_lossy(text).into_owned()),
        _ if !whole => None,
        BOOL => Some(if bytes == [0] { "false" } else { "true" }.to_owned()),
        INT2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        INT4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        INT8 => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        OID => Some(u32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        FLOAT4 => Some(f32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        FLOAT8 => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        UUID => Some(uuid::Uuid::from_slice(bytes).ok()?.to_string()),
        DATE => date(i32::from_be_bytes(bytes.try_into().ok()?)),
        TIME => time(i64::from_be_bytes(bytes.try_into().ok()?)),
        TIMESTAMP => moment(i64::from_be_bytes(bytes.try_into().ok()?), ""),
        TIMESTAMPTZ => moment(i64::from_be_bytes(bytes.try_into().ok()?), "Z"),
        INTERVAL => interval(bytes),
        NUMERIC => numeric(bytes),
        _ => array(bytes),
    }
}

/// Microseconds since 2000; the ends of the range are infinities.
fn moment(microseconds: i64, zone: &str) -> Option<String> {
    match microseconds {
        i64::MAX => Some("infinity".to_owned()),
        i64::MIN => Some("-infinity".to_owned()),
        _ => {
            let moment = EPOCH.checked_add(SignedDuration::from_micros(microseconds)).ok()?;
            Some(format!("{moment}{zone}"))
        }
    }
}

fn date(days: i32) -> Option<String> {
    match days {
        i32::MAX => Some("infinity".to_owned()),
        i32::MIN => Some("-infinity".to_owned()),
        _ => Some(EPOCH.date().checked_add(Span::new().try_days(days).ok()?).ok()?.to_string()),
    }
}

fn time(microseconds: i64) -> Option<String> {
    let moment = EPOCH.checked_add(SignedDuration::from_micros(microseconds)).ok()?;
    Some(moment.time().to_string())
}

/// Microseconds, days and months, in this order.
fn interval(bytes: &[u8]) -> Option<String> {
    let (microseconds, rest) = bytes.split_first_chunk::<8>()?;
    let (days, months) = rest.split_first_chunk::<4>()?;
    let (microseconds, days) = (i64::from_be_bytes(*microseconds), i32::from_be_bytes(*days));
    let months = i32::from_be_bytes(months.try_into().ok()?);
    Some(format!("{months} mons {days} days {:#}", SignedDuration::from_micros(microseconds)))
}

/// Digits of base 10,000: how many, the weight of the first, the sign, digits behind the point; then the digits.
fn numeric(bytes: &[u8]) -> Option<String> {
    let mut words = bytes.chunks_exact(2).filter_map(|pair| Some(i16::from_be_bytes(pair.try_into().ok()?)));
    let (count, weight, sign, scale) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let special = match u16::from_be_bytes(sign.to_be_bytes()) {
        0xC000 => Some("NaN"),
        0xD000 => Some("Infinity"),
        0xF000 => Some("-Infinity"),
        _ => None,
    };
    if let Some(special) = special {
        return Some(special.to_owned());
    }
    let digits: Vec<i16> = words.collect();
    if usize::try_from(count).ok()? != digits.len() || !(-64..=64).contains(&weight) || !(0..=256).contains(&scale) {
        return None;
    }
    let digit = |place: i16| usize::try_from(weight - place).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
    let mut text = if sign == 0 { String::new() } else { "-".to_owned() };
    for place in (0..=weight.max(0)).rev() {
        let first = place == weight.max(0);
        let _ = if first { write!(text, "{}", digit(place)) } else { write!(text, "{:04}", digit(place)) };
    }
    if scale > 0 {
        let places = (scale + 3) / 4;
        let fraction: String = (1..=places).map(|place| format!("{:04}", digit(-place))).collect();
        let _ = write!(text, ".{}", cut(&fraction, usize::try_from(scale).ok()?));
    }
    Some(text)
}

/// An array of one dimension, of elements whose type is known.
fn array(bytes: &[u8]) -> Option<String> {
    let word = |at: usize| Some(i32::from_be_bytes(bytes.get(at * 4..at * 4 + 4)?.try_into().ok()?));
    let (dimensions, element) = (word(0)?, u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?));
    name(element)?;
    let (count, mut rest) = match dimensions {
        0 => (0, [].as_slice()),
        1 => (word(3)?, bytes.get(20..)?),
        _ => return None,
    };
    let mut values = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            values.push("NULL".to_owned());
            rest = after;
            continue;
        };
        let value = after.get(..length)?;
        values.push(match binary(element, value, true)? {
            plain if !plain.is_empty() && plain.chars().all(|c| c.is_alphanumeric() || "._:-+".contains(c)) => plain,
            other => format!("{other:?}"),
        });
        rest = after.get(length..)?;
    }
    Some(format!("{{{}}}", values.join(",")))
}

/// The name of a built-in type (`src/include/catalog/pg_type.dat`).
fn name(oid: u32) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name)
}

const EPOCH: DateTime = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);

const BOOL: u32 = 16;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const OID: u32 = 26;
const JSON: u32 = 114;
const XML: u32 = 142;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const UNKNOWN: u32 = 705;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;

const NAMES: [(u32, &str); 45] = [
    (BOOL, "bool"),
    (17, "bytea"),
    (18, "char"),
    (NAME, "name"),
    (INT8, "int8"),
    (INT2, "int2"),
    (INT4, "int4"),
    (TEXT, "text"),
    (OID, "oid"),
    (JSON, "json"),
    (XML, "xml"),
    (199, "json[]"),
    (650, "cidr"),
    (FLOAT4, "float4"),
    (FLOAT8, "float8"),
    (UNKNOWN, "unknown"),
    (790, "money"),
    (829, "macaddr"),
    (869, "inet"),
    (1000, "bool[]"),
    (1005, "int2[]"),
    (1007, "int4[]"),
    (1009, "text[]"),
    (1014, "bpchar[]"),
    (1015, "varchar[]"),
    (1016, "int8[]"),
    (1021, "float4[]"),
    (1022, "float8[]"),
    (1028, "oid[]"),
    (BPCHAR, "bpchar"),
    (VARCHAR, "varchar"),
    (DATE, "date"),
    (TIME, "time"),
    (TIMESTAMP, "timestamp"),
    (1115, "timestamp[]"),
    (1182, "date[]"),
    (TIMESTAMPTZ, "timestamptz"),
    (1185, "timestamptz[]"),
    (INTERVAL, "interval"),
    (1231, "numeric[]"),
    (1266, "timetz"),
    (NUMERIC, "numeric"),
    (UUID, "uuid"),
    (2951, "uuid[]"),
    (JSONB, "jsonb"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(oid: u32, bytes: &[u8]) -> Parameter {
        let length = u64::try_from(bytes.len()).unwrap();
        parameter(&Raw { binary: true, bytes: Some(bytes.to_vec()), length }, oid, ParameterRule::Record)
    }

    #[test]
    fn common_binary_values_are_shown_as_text() {
        let array =
            [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255];
        for (oid, bytes, expected) in [
            (BOOL, &[1][..], "true"),
            (INT2, &[255, 255], "-1"),
            (INT4, &[0, 0, 1, 0], "256"),
            (INT8, &[0, 0, 0, 0, 0, 0, 0, 9], "9"),
            (FLOAT8, &0.5_f64.to_be_bytes(), "0.5"),
            (VARCHAR, "né".as_bytes(), "né"),
            (JSONB, b"\x01{}", "{}"),
            (DATE, &[0, 0, 0, 31], "2000-02-01"),
            (TIMESTAMPTZ, &1_500_000_i64.to_be_bytes(), "2000-01-01T00:00:01.5Z"),
            (TIMESTAMP, &i64::MAX.to_be_bytes(), "infinity"),
            (TIME, &3_661_000_000_i64.to_be_bytes(), "01:01:01"),
            (UUID, &[0x11; 16], "11111111-1111-1111-1111-111111111111"),
            (NUMERIC, &[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 12, 13, 72], "-12.34"),
            (NUMERIC, &[0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 5], "10005"),
            (NUMERIC, &[0, 1, 255, 255, 0, 0, 0, 3, 0, 10], "0.001"),
            (NUMERIC, &[0, 0, 0, 0, 0xC0, 0, 0, 0], "NaN"),
            (1007, &array, "{7,NULL}"),
            (17, &[0xca, 0xfe], "\\xcafe"),
            (0, &[1], "\\x01"),
        ] {
            let found = shown(oid, bytes);
            assert_eq!((found.value.as_deref(), found.bytes), (Some(expected), None), "{oid}");
        }
    }

    #[test]
    fn broken_values_are_hex_and_hidden_ones_are_lengths() {
        for oid in
            [BOOL, INT2, INT4, INT8, FLOAT4, FLOAT8, DATE, TIME, TIMESTAMP, INTERVAL, NUMERIC, UUID, JSONB, 1007, 869]
        {
            for bytes in [&[][..], &[255; 3], &[255; 40]] {
                let _ = shown(oid, bytes);
            }
        }
        let raw = Raw { binary: false, bytes: Some(Vec::new()), length: 9 };
        let hidden = parameter(&raw, TEXT, ParameterRule::Hide);
        assert_eq!((hidden.value, hidden.bytes), (None, Some(9)));
        let null = parameter(&Raw { binary: false, bytes: None, length: 0 }, TEXT, ParameterRule::Record);
        assert_eq!((null.value, null.bytes), (None, None));
    }
}
