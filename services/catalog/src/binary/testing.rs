//! Small ELF programs for tests, of either width and byte order.
//! Never part of a build.

const FIRST_OFFSET: usize = 128;
/// Where the file is mapped; a multiple of every alignment.
const BASE: u64 = 0x40_0000;

/// How numbers are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub is_64: bool,
    pub is_big_endian: bool,
}

impl Shape {
    pub const USUAL: Self = Self { is_64: true, is_big_endian: false };
    pub const ALL: [Self; 4] = [
        Self::USUAL,
        Self { is_64: true, is_big_endian: true },
        Self { is_64: false, is_big_endian: false },
        Self { is_64: false, is_big_endian: true },
    ];

    pub fn number(self, value: u64, bytes: usize) -> Vec<u8> {
        let all = value.to_be_bytes();
        let mut out = all[8 - bytes..].to_vec();
        if !self.is_big_endian {
            out.reverse();
        }
        out
    }

    pub fn word_bytes(self) -> usize {
        if self.is_64 { 8 } else { 4 }
    }

    pub fn word(self, value: u64) -> Vec<u8> {
        self.number(value, self.word_bytes())
    }

    /// Where section `index` is mapped, when those before it have these lengths.
    pub fn address(self, lengths_before: &[usize]) -> u64 {
        BASE + (FIRST_OFFSET + lengths_before.iter().map(|length| length.next_multiple_of(16)).sum::<usize>())
            as u64
    }

    /// A program with these sections, all of them in one mapped segment of data.
    pub fn program(self, sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; FIRST_OFFSET];
        let mut names = vec![0];
        let mut table = vec![vec![0; if self.is_64 { 64 } else { 40 }]];
        let mut all_names: Vec<u8> = vec![0];
        for name in sections.iter().map(|(name, _)| *name).chain([".shstrtab"]) {
            all_names.extend_from_slice(name.as_bytes());
            all_names.push(0);
        }
        for (name, bytes) in sections.iter().copied().chain([(".shstrtab", &all_names[..])]) {
            let offset = file.len() as u64;
            let mut header = self.number(names.len() as u64, 4);
            header.extend(self.number(1, 4));
            for word in [0, BASE + offset, offset, bytes.len() as u64] {
                header.extend(self.word(word));
            }
            header.resize(table[0].len(), 0);
            table.push(header);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            file.extend_from_slice(bytes);
            file.resize(file.len().next_multiple_of(16), 0);
        }
        let size = file.len() as u64;
        let mut head = b"\x7fELF".to_vec();
        head.extend([1 + u8::from(self.is_64), 1 + u8::from(self.is_big_endian), 1]);
        head.resize(16, 0);
        head.extend(self.number(2, 2));
        head.extend(self.number(62, 2));
        head.extend(self.number(1, 4));
        let header_bytes = if self.is_64 { 64 } else { 52 };
        for word in [0, header_bytes, size] {
            head.extend(self.word(word));
        }
        head.extend(self.number(0, 4));
        let (segment_bytes, section_bytes) = if self.is_64 { (56, 64) } else { (32, 40) };
        for half in
            [header_bytes, segment_bytes, 1, section_bytes, table.len() as u64, table.len() as u64 - 1]
        {
            head.extend(self.number(half, 2));
        }
        head.extend(self.number(1, 4));
        let readable = self.number(4, 4);
        if self.is_64 {
            head.extend(&readable);
        }
        for word in [0, BASE, BASE, size, size] {
            head.extend(self.word(word));
        }
        if !self.is_64 {
            head.extend(&readable);
        }
        file[..head.len()].copy_from_slice(&head);
        table.iter().for_each(|header| file.extend_from_slice(header));
        file
    }

    /// Takes the section table out, as some strippers do.
    pub fn without_sections(self, mut program: Vec<u8>) -> Vec<u8> {
        let (offset_at, count_at) = if self.is_64 { (40, 60) } else { (32, 48) };
        program[offset_at..offset_at + self.word_bytes()].fill(0);
        program[count_at..count_at + 4].fill(0);
        program
    }
}
