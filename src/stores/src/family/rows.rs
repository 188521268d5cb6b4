//! Rows as they stand in the log: the values of a few columns, those of the key, and the way past all others. Pure.
//!
//! What a value means is not in the log: whether a number has a sign, and in which characters a text is. The server's own words
//! for the table say that; a key of a type that is not known here is [`Damaged`], and then nothing of it is listed.

/// The log makes no sense, or has a type that is not known here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A column as a table map describes it: its type, and what else is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: u8,
    pub(crate) meta: [u8; 2],
}

/// A value of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A number, without its sign: as many bytes as the type has.
    Number(Vec<u8>),
    /// Text, in the column's characters, or bytes.
    Bytes(Vec<u8>),
    /// A day: year, month and day.
    Day(u16, u8, u8),
}

/// A number that has no sign.
pub(crate) fn unsigned(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A number that has one: its first bit.
pub(crate) fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * u32::try_from(bytes.len().clamp(1, 8)).unwrap_or(8);
    (unsigned(bytes) << unused).cast_signed() >> unused
}

/// What is left of an event.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, the lowest first.
    pub(crate) fn number(&mut self, len: usize) -> Result<u64, Damaged> {
        self.take(len).map(unsigned)
    }

    /// A length of so many bytes.
    pub(crate) fn len(&mut self, len: usize) -> Result<usize, Damaged> {
        usize::try_from(self.number(len)?).map_err(|_| Damaged)
    }

    /// A number that says by itself how long it is.
    fn packed(&mut self) -> Result<usize, Damaged> {
        match self.number(1)? {
            short @ 0..=250 => usize::try_from(short).map_err(|_| Damaged),
            252 => self.len(2),
            253 => self.len(3),
            254 => self.len(8),
            _ => Err(Damaged),
        }
    }
}

/// The bit `at` of a map.
fn bit(map: &[u8], at: usize) -> bool {
    map.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

/// What a rows event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Insert,
    Update,
    Delete,
}

/// The table that a rows event is about, and what follows.
pub(crate) fn table_of(kind: u8, event: &[u8]) -> Result<(u64, Reader<'_>), Damaged> {
    let mut reader = Reader(event);
    let table = reader.number(6)?;
    reader.take(2)?;
    // The later kinds have more to say, after its length, which counts itself.
    if (30..=32).contains(&kind) {
        let more = reader.len(2)?;
        reader.take(more.checked_sub(2).ok_or(Damaged)?)?;
    }
    Ok((table, reader))
}

/// The keys of an event's rows, before and after: those of the columns `key`.
pub(crate) fn keys(
    mut event: Reader<'_>,
    does: Does,
    shapes: &[Shape],
    key: &[usize],
) -> Result<Vec<Vec<Part>>, Damaged> {
    let width = event.packed()?;
    if width != shapes.len() {
        return Err(Damaged);
    }
    let present = event.take(width.div_ceil(8))?;
    let after = match does {
        Does::Update => event.take(width.div_ceil(8))?,
        Does::Insert | Does::Delete => present,
    };
    let mut keys = Vec::new();
    while !event.0.is_empty() {
        let before = row(&mut event, shapes, present, key)?;
        let whole = before.iter().cloned().collect::<Option<Vec<_>>>().ok_or(Damaged)?;
        if does == Does::Update {
            let now = row(&mut event, shapes, after, key)?;
            // What the log leaves out of the second version is as in the first.
            let pairs = now.into_iter().zip(&whole);
            keys.push(pairs.map(|(now, was)| now.unwrap_or_else(|| was.clone())).collect());
        }
        keys.push(whole);
    }
    Ok(keys)
}

/// The key's values of one version of a row; `None` for those that are left out.
fn row(event: &mut Reader<'_>, shapes: &[Shape], present: &[u8], key: &[usize]) -> Result<Vec<Option<Part>>, Damaged> {
    let columns: Vec<usize> = (0..shapes.len()).filter(|column| bit(present, *column)).collect();
    let nulls = event.take(columns.len().div_ceil(8))?;
    let mut found = vec![None; key.len()];
    for (number, column) in columns.into_iter().enumerate() {
        if bit(nulls, number) {
            continue;
        }
        let shape = shapes.get(column).ok_or(Damaged)?;
        let bytes = value(event, *shape)?;
        if let Some(place) = key.iter().position(|known| *known == column)
            && let Some(place) = found.get_mut(place)
        {
            *place = Some(part(*shape, bytes)?);
        }
    }
    Ok(found)
}

/// The bytes of a value, without its length.
fn value<'a>(event: &mut Reader<'a>, Shape { kind, meta }: Shape) -> Result<&'a [u8], Damaged> {
    let [low, high] = meta;
    let of_second = |base: usize| base + usize::from(low).div_ceil(2);
    let len = match kind {
        1 | 13 => 1,
        2 => 2,
        9 | 10 | 11 | 14 => 3,
        3 | 4 | 7 => 4,
        5 | 8 | 12 => 8,
        17 => of_second(4),
        18 => of_second(5),
        19 => of_second(3),
        16 => usize::from(high) + usize::from(low > 0),
        246 => decimal(usize::from(low), usize::from(high)),
        15 | 141 | 253 => {
            let longest = u16::from_le_bytes(meta);
            event.len(if longest < 256 { 1 } else { 2 })?
        }
        242 | 245 | 249..=252 | 255 | 140 => event.len(usize::from(low))?,
        // Of a text of fixed length, an enum or a set, the first says which.
        254 => match low {
            247 | 248 => usize::from(high),
            low => {
                let longest = usize::from(high) | usize::from((low & 0x30) ^ 0x30) << 4;
                event.len(if longest < 256 { 1 } else { 2 })?
            }
        },
        _ => return Err(Damaged),
    };
    event.take(len)
}

/// How many bytes a decimal has.
fn decimal(precision: usize, scale: usize) -> usize {
    const LEFT_OVER: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let whole = precision.saturating_sub(scale);
    let digits = |digits: usize| digits / 9 * 4 + LEFT_OVER.get(digits % 9).copied().unwrap_or_default();
    digits(whole) + digits(scale)
}

fn part(Shape { kind, meta }: Shape, bytes: &[u8]) -> Result<Part, Damaged> {
    match kind {
        1 | 2 | 3 | 8 | 9 => Ok(Part::Number(bytes.to_vec())),
        15 | 249..=253 => Ok(Part::Bytes(bytes.to_vec())),
        254 if meta[0] == 247 => Ok(Part::Number(bytes.to_vec())),
        254 if meta[0] != 248 => Ok(Part::Bytes(bytes.to_vec())),
        10 | 14 => {
            let day = Reader(bytes).number(3)?;
            let small = |number: u64| u8::try_from(number).map_err(|_| Damaged);
            let year = u16::try_from(day >> 9).map_err(|_| Damaged)?;
            Ok(Part::Day(year, small(day >> 5 & 15)?, small(day & 31)?))
        }
        _ => Err(Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Shape = Shape {
        kind: 15,
        meta: [200, 0],
    };
    const NUMBER: Shape = Shape { kind: 3, meta: [0, 0] };

    fn text(text: &str) -> Part {
        Part::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn keys_are_read_before_and_after_and_what_is_left_out_stays() {
        // Two columns, all there; two rows, the second one's number is null.
        let insert = [2, 3, 0, 1, b'a', 7, 0, 0, 0, 2, 1, b'b'];
        let keys_of = |event: &[u8], does| keys(Reader(event), does, &[TEXT, NUMBER], &[0]);
        assert_eq!(
            keys_of(&insert, Does::Insert).unwrap(),
            [vec![text("a")], vec![text("b")]]
        );
        // The first version has the key only, the second the number only.
        let update = [2, 1, 2, 0, 1, b'a', 0, 9, 0, 0, 0];
        assert_eq!(
            keys_of(&update, Does::Update).unwrap(),
            [vec![text("a")], vec![text("a")]]
        );
        for broken in [&[2, 3, 0, 1][..], &[3, 7], &[255], &[2, 2, 0, 7, 0, 0, 0]] {
            assert_eq!(keys_of(broken, Does::Delete), Err(Damaged), "{broken:?}");
        }
    }

    #[test]
    fn the_way_past_every_type_is_known() {
        for (kind, meta, bytes, len) in [
            (246, [10, 2], &[0; 5][..], 5),
            (246, [18, 9], &[0; 8], 8),
            (18, [6, 0], &[0; 8], 8),
            (17, [0, 0], &[0; 4], 4),
            (16, [3, 1], &[0; 2], 2),
            (252, [2, 0], &[3, 0, 1, 2, 3], 3),
            (254, [254, 16], &[2, 1, 2], 2),
            (254, [247, 1], &[4], 1),
            (253, [0, 2], &[1, 0, 9], 1),
        ] {
            let shape = Shape { kind, meta };
            let mut reader = Reader(bytes);
            assert_eq!(value(&mut reader, shape).map(<[u8]>::len), Ok(len), "{shape:?}");
            assert!(reader.0.is_empty(), "{shape:?}");
        }
        assert_eq!(
            value(&mut Reader(&[0; 9]), Shape { kind: 99, meta: [0, 0] }),
            Err(Damaged)
        );
        let day = (2026_u64 << 9 | 11 << 5 | 27).to_le_bytes();
        let shape = Shape { kind: 10, meta: [0, 0] };
        assert_eq!(part(shape, &day[..3]), Ok(Part::Day(2026, 11, 27)));
    }
}
