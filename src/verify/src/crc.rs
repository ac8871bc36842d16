//! CRC-32 (IEEE 802.3), as ZIP entries and journal frames carry it (SPEC sections 9 and 12).
//!
//! Sixteen bytes a step from sixteen tables, so that it costs less than the hashes beside it.

const STEP: usize = 16;

static TABLES: [[u32; 256]; STEP] = tables();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
const fn tables() -> [[u32; 256]; STEP] {
    let mut tables = [[0; 256]; STEP];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32; // Below 256.
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut step = 1;
    while step < STEP {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[step - 1][byte];
            tables[step][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8); // Below 256.
            byte += 1;
        }
        step += 1;
    }
    tables
}

/// The CRC-32 of all parts, one after the other.
pub(crate) fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for part in parts {
        let (steps, rest) = part.as_chunks::<STEP>();
        for step in steps {
            let mut bytes = *step;
            for (byte, crc) in bytes.iter_mut().zip(crc.to_le_bytes()) {
                *byte ^= crc;
            }
            crc = TABLES.iter().rev().zip(bytes).fold(0, |sum, (table, byte)| sum ^ look_up(table, byte));
        }
        for byte in rest {
            let [low, ..] = crc.to_le_bytes();
            crc = look_up(&TABLES[0], low ^ byte) ^ (crc >> 8);
        }
    }
    !crc
}

#[inline(always)]
fn look_up(table: &[u32; 256], byte: u8) -> u32 {
    table.get(usize::from(byte)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gives_the_check_value_of_the_algorithm() {
        assert_eq!(crc32(&[b"123456789"]), 0xcbf4_3926);
        assert_eq!(crc32(&[]), 0);
    }

    proptest! {
        #[test]
        fn does_not_depend_on_where_the_bytes_are_cut(bytes: Vec<u8>, cut in 0usize..200) {
            let mut bitwise = u32::MAX;
            for byte in &bytes {
                bitwise ^= u32::from(*byte);
                for _ in 0..8 {
                    bitwise = if bitwise & 1 == 1 { 0xedb8_8320 ^ (bitwise >> 1) } else { bitwise >> 1 };
                }
            }
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(crc32(&[head, tail]), !bitwise);
        }
    }
}
