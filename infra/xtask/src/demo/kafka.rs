//! Asks Kafka how far a consumer group is behind: committed offsets against the last stable offsets of its topics.
//! It never produces, joins a group or commits. It speaks the protocol itself, since xtask builds no product crate.

use crate::http;
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT_BYTES: usize = 64 << 20;
/// Bytes asked for at once when looking whether records wait; the broker gives at least one batch.
const FETCH_BYTES: i32 = 1 << 20;

// API keys and versions of the Kafka protocol guide: the newest without "flexible" encoding.
const FETCH: (i16, i16) = (1, 4);
const LIST_OFFSETS: (i16, i16) = (2, 2);
const METADATA: (i16, i16) = (3, 1);
const OFFSET_FETCH: (i16, i16) = (9, 2);
const READ_COMMITTED: u8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// One partition of a topic.
pub type Partition = (String, i32);

/// A connection to the one broker of a development stack.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&http::resolve(address)?, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream })
    }

    /// Partitions of the topics that `wanted` says yes to.
    pub fn partitions(&mut self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Partition>> {
        // A null list asks for all topics.
        let answer = self.call(METADATA, &Body::default().i32(-1).0)?;
        let mut answer = Answer(&answer);
        answer.list(|broker| {
            broker.skip(4)?;
            broker.string()?;
            broker.skip(4)?;
            broker.string().map(|_| ())
        })?;
        answer.skip(4)?; // controller
        let mut found = Vec::new();
        answer.list(|topic| {
            topic.skip(2)?;
            let name = topic.string()?;
            topic.skip(1)?;
            topic.list(|partition| {
                partition.skip(2)?;
                let number = partition.i32()?;
                partition.skip(4)?;
                partition.list(|replica| replica.skip(4))?;
                partition.list(|in_sync| in_sync.skip(4))?;
                found.push((name.clone(), number));
                Ok(())
            })
        })?;
        found.retain(|(topic, _)| wanted(topic));
        Ok(found)
    }

    /// What the group has committed; partitions without a commit are missing.
    pub fn committed(&mut self, group: &str) -> anyhow::Result<BTreeMap<Partition, i64>> {
        let answer = self.call(OFFSET_FETCH, &Body::default().string(group).i32(-1).0)?;
        let mut answer = Answer(&answer);
        let mut found = BTreeMap::new();
        answer.list(|topic| {
            let name = topic.string()?;
            topic.list(|partition| {
                let (number, offset) = (partition.i32()?, partition.i64()?);
                partition.string()?;
                no_error(partition.i16()?)?;
                if offset >= 0 {
                    found.insert((name.clone(), number), offset);
                }
                Ok(())
            })
        })?;
        no_error(answer.i16()?)?;
        Ok(found)
    }

    /// Whether records wait in `[from, last stable offset)`; marks of transactions and aborted records do not count.
    /// Without `from` the first kept record is meant.
    pub fn has_records(&mut self, partition: &Partition, from: Option<i64>) -> anyhow::Result<bool> {
        let end = self.offset(partition, LATEST)?;
        let mut from = match from {
            Some(offset) => offset,
            None => self.offset(partition, EARLIEST)?,
        };
        while from < end {
            let fetched = self.fetch(partition, from)?;
            let read = scan(&fetched, from)?;
            if read.records {
                return Ok(true);
            }
            ensure!(read.next > from, "Kafka gave no batch of {partition:?} at offset {from}");
            from = read.next;
        }
        Ok(false)
    }

    fn offset(&mut self, (topic, number): &Partition, time: i64) -> anyhow::Result<i64> {
        let body = Body::default().i32(-1).u8(READ_COMMITTED).i32(1).string(topic);
        let answer = self.call(LIST_OFFSETS, &body.i32(1).i32(*number).i64(time).0)?;
        let mut answer = Answer(&answer);
        answer.skip(4)?; // throttle time
        let mut found = None;
        answer.list(|topic| {
            topic.string()?;
            topic.list(|partition| {
                partition.skip(4)?;
                no_error(partition.i16()?)?;
                partition.skip(8)?;
                found = Some(partition.i64()?);
                Ok(())
            })
        })?;
        found.with_context(|| format!("Kafka tells no offset of {topic} partition {number}"))
    }

    fn fetch(&mut self, (topic, number): &Partition, from: i64) -> anyhow::Result<Fetched> {
        let body = Body::default().i32(-1).i32(0).i32(0).i32(FETCH_BYTES).u8(READ_COMMITTED);
        let body = body.i32(1).string(topic).i32(1).i32(*number).i64(from).i32(FETCH_BYTES);
        let answer = self.call(FETCH, &body.0)?;
        let mut answer = Answer(&answer);
        answer.skip(4)?; // throttle time
        let mut fetched = Fetched::default();
        answer.list(|topic| {
            topic.string()?;
            topic.list(|partition| {
                partition.skip(4)?;
                no_error(partition.i16()?)?;
                partition.skip(16)?; // high watermark, last stable offset
                partition.list(|aborted| {
                    fetched.aborted.push((aborted.i64()?, aborted.i64()?));
                    Ok(())
                })?;
                fetched.batches = partition.bytes()?.to_vec();
                Ok(())
            })
        })?;
        Ok(fetched)
    }

    fn call(&mut self, (key, version): (i16, i16), body: &[u8]) -> anyhow::Result<Vec<u8>> {
        const CORRELATION: i32 = 7;
        let head = Body::default().i16(key).i16(version).i32(CORRELATION).string("xtask").0;
        let size = i32::try_from(head.len() + body.len())?;
        self.stream.write_all(&[&size.to_be_bytes(), head.as_slice(), body].concat())?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).context("Kafka gave no answer")?;
        let size = u32::from_be_bytes(size) as usize;
        ensure!((4..ANSWER_LIMIT_BYTES).contains(&size), "not an answer of Kafka: {size} bytes");
        let mut answer = vec![0; size];
        self.stream.read_exact(&mut answer)?;
        ensure!(Answer(&answer).i32()? == CORRELATION, "Kafka answered another question");
        Ok(answer.split_off(4))
    }
}

fn no_error(code: i16) -> anyhow::Result<()> {
    ensure!(code == 0, "Kafka answers with error {code}");
    Ok(())
}

/// A partition's answer to Fetch: aborted transactions as (producer id, first offset), and record batches.
#[derive(Default)]
struct Fetched {
    aborted: Vec<(i64, i64)>,
    batches: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Scanned {
    /// Whether a record that a read_committed reader gets is there.
    records: bool,
    /// The offset behind the last whole batch.
    next: i64,
}

/// Looks at the heads of record batches (version 2: magic 2 in the protocol guide).
fn scan(fetched: &Fetched, from: i64) -> anyhow::Result<Scanned> {
    const HEAD_BYTES: usize = 61;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    let mut aborted = fetched.aborted.clone();
    let mut scanned = Scanned { records: false, next: from };
    let mut rest = fetched.batches.as_slice();
    while rest.len() >= HEAD_BYTES {
        let mut head = Answer(rest);
        let base = head.i64()?;
        let length = 12 + usize::try_from(head.i32()?).context("a batch of negative length")?;
        if rest.len() < length {
            // The last batch may be cut off at the limit.
            break;
        }
        head.skip(4)?;
        ensure!(head.u8()? == 2, "a record batch of unknown version");
        head.skip(4)?;
        let attributes = head.i16()?;
        let last = base + i64::from(head.i32()?);
        head.skip(16)?;
        let producer = head.i64()?;
        let is_aborted = aborted.iter().position(|(id, first)| *id == producer && *first <= base);
        if attributes & CONTROL != 0 {
            // The mark that ends it.
            is_aborted.map(|position| aborted.swap_remove(position));
        } else if last >= from && !(attributes & TRANSACTIONAL != 0 && is_aborted.is_some()) {
            scanned.records = true;
        }
        scanned.next = scanned.next.max(last + 1);
        rest = &rest[length..];
    }
    Ok(scanned)
}

/// The body of a request, big-endian.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Names of topics and groups, which Kafka keeps far below this bound.
    fn string(self, value: &str) -> Self {
        let mut body = self.i16(i16::try_from(value.len()).unwrap_or(i16::MAX));
        body.0.extend(value.as_bytes());
        body
    }
}

/// What is left of an answer, big-endian.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, size: usize) -> anyhow::Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(size) else {
            bail!("an answer of Kafka is cut off")
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn skip(&mut self, size: usize) -> anyhow::Result<()> {
        self.take(size).map(|_| ())
    }

    fn u8(&mut self) -> anyhow::Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> anyhow::Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A null string reads as the empty one.
    fn string(&mut self) -> anyhow::Result<String> {
        let size = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(size)?).into_owned())
    }

    fn bytes(&mut self) -> anyhow::Result<&'a [u8]> {
        let size = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(size)
    }

    /// A null list reads as the empty one.
    fn list(&mut self, mut item: impl FnMut(&mut Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for _ in 0..self.i32()?.max(0) {
            item(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: i16 = 0;
    const IN_TRANSACTION: i16 = 0x10;
    const MARK: i16 = 0x30;

    /// A batch's head without records: base offset, last offset delta, attributes, producer id.
    fn batch((base, delta, attributes, producer): (i64, i32, i16, i64)) -> Vec<u8> {
        let body = Body::default().i64(base).i32(49).i32(0).u8(2).i32(0).i16(attributes).i32(delta);
        body.i64(0).i64(0).i64(producer).i16(0).i32(0).i32(0).0
    }

    #[test]
    fn marks_and_aborted_records_are_no_records() {
        let check =
            |batches: &[(i64, i32, i16, i64)], aborted: &[(i64, i64)], from: i64, expect: (bool, i64)| {
                let batches = batches.iter().flat_map(|of| batch(*of)).collect();
                let scanned = scan(&Fetched { aborted: aborted.to_vec(), batches }, from).unwrap();
                assert_eq!(scanned, Scanned { records: expect.0, next: expect.1 });
            };
        check(&[], &[], 5, (false, 5));
        check(&[(5, 0, MARK, 1)], &[], 5, (false, 6));
        check(&[(5, 2, DATA, -1)], &[], 5, (true, 8));
        // The batch that holds the committed offset's predecessor comes again.
        check(&[(3, 1, DATA, -1), (5, 0, MARK, 1)], &[], 5, (false, 6));
        check(&[(5, 1, IN_TRANSACTION, 1), (7, 0, MARK, 1)], &[(1, 5)], 5, (false, 8));
        check(&[(5, 1, IN_TRANSACTION, 2), (7, 0, MARK, 1)], &[(1, 5)], 5, (true, 8));
        // The same producer's next transaction was committed.
        check(
            &[(5, 1, IN_TRANSACTION, 1), (7, 0, MARK, 1), (8, 0, IN_TRANSACTION, 1), (9, 0, MARK, 1)],
            &[(1, 5)],
            5,
            (true, 10),
        );
    }
}
