//! What was published, against which every client's view is held.

use std::collections::BTreeMap;

use bytes::Bytes;

/// All publications by channel, in order.
#[derive(Default)]
pub struct Truth {
    channels: BTreeMap<String, Vec<Record>>,
}

/// One publication.
#[derive(Clone, Debug)]
pub struct Record {
    /// 0 without history.
    pub offset: u64,
    pub epoch: String,
    /// Different for each publication.
    pub data: Bytes,
    /// The filter of the tests wants it.
    pub red: bool,
}

impl Truth {
    pub fn add(&mut self, channel: &str, record: Record) {
        let records = self.channels.entry(channel.to_owned()).or_default();
        let before = records.iter().rev().find(|r| r.offset > 0 && r.epoch == record.epoch);
        if record.offset > 0 {
            let expected = before.map_or(1, |before| before.offset + 1);
            assert_eq!(record.offset, expected, "{channel}: offsets follow one another");
        }
        records.push(record);
    }

    pub fn of(&self, channel: &str) -> &[Record] {
        self.channels.get(channel).map_or(&[], |records| records)
    }

    /// Where in the channel's list the publication with this data stands.
    pub fn find(&self, channel: &str, data: &[u8]) -> Option<usize> {
        self.of(channel).iter().position(|record| record.data == data)
    }
}
