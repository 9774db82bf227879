//! Questions and answers as they are on the wire.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Answers change with the copies; whoever asks again soon hears so.
const TTL: u32 = 5;
/// Bytes of a UDP answer to who says nothing else (RFC 1035).
const PLAIN: u16 = 512;
/// Bytes of a UDP answer at most, whatever the asker says: no fragments (DNS flag day 2020).
const LARGEST: u16 = 1232;
/// Bytes of a header.
const HEADER: usize = 12;

/// A question that can be answered or handed on.
#[derive(Debug)]
pub(crate) struct Question {
    message: Message,
    query: Query,
}

/// Why there is no question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// It is not worth an answer, or an answer could be abused: nonsense, or itself an answer.
    Silence,
    /// It is answered with this.
    Answered(Vec<u8>),
}

impl Question {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unasked> {
        let header: [u8; HEADER] = bytes.get(..HEADER).and_then(|head| head.try_into().ok()).ok_or(Unasked::Silence)?;
        // An answer is never answered: two servers would go on for ever.
        if header[2] & 0x80 != 0 {
            return Err(Unasked::Silence);
        }
        let id = u16::from_be_bytes([header[0], header[1]]);
        let refuse = |code| Unasked::Answered(refusal(id, code));
        if header[2] >> 3 & 0xf != 0 {
            return Err(refuse(ResponseCode::NotImp));
        }
        let message = Message::from_vec(bytes).map_err(|_| refuse(ResponseCode::FormErr))?;
        match &message.queries[..] {
            [query] if query.query_class() == DNSClass::IN => Ok(Self { query: query.clone(), message }),
            [_] => Err(refuse(ResponseCode::Refused)),
            _ => Err(refuse(ResponseCode::FormErr)),
        }
    }

    /// The name without the dot at its end.
    pub(crate) fn name(&self) -> String {
        let labels: Vec<_> = self.query.name().iter().map(String::from_utf8_lossy).collect();
        labels.join(".")
    }

    pub(crate) fn id(&self) -> u16 {
        self.message.metadata.id
    }

    /// Bytes of an answer by UDP.
    pub(crate) fn room(&self) -> usize {
        self.message.edns.as_ref().map_or(PLAIN, |edns| edns.max_payload().clamp(PLAIN, LARGEST)).into()
    }

    /// Those of the addresses that are asked for; none is an answer, too.
    pub(crate) fn addresses(&self, all: &[IpAddr]) -> Message {
        let kind = self.query.query_type();
        let wants = |is: RecordType| kind == is || kind == RecordType::ANY;
        let mut answer = self.answer(ResponseCode::NoError);
        for address in all {
            let data = match address {
                IpAddr::V4(v4) if wants(RecordType::A) => RData::A(A(*v4)),
                IpAddr::V6(v6) if wants(RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
                IpAddr::V4(_) | IpAddr::V6(_) => continue,
            };
            answer.add_answer(Record::from_rdata(self.query.name().clone(), TTL, data));
        }
        answer
    }

    /// The name of an address.
    pub(crate) fn pointer(&self, to: &str) -> Message {
        let mut answer = self.answer(ResponseCode::NoError);
        let is_asked = matches!(self.query.query_type(), RecordType::PTR | RecordType::ANY);
        if let Some(to) = Name::from_utf8(format!("{to}.")).ok().filter(|_| is_asked) {
            answer.add_answer(Record::from_rdata(self.query.name().clone(), TTL, RData::PTR(PTR(to))));
        }
        answer
    }

    /// An answer without records.
    pub(crate) fn answer(&self, code: ResponseCode) -> Message {
        let mut answer = Message::new(self.id(), MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = self.message.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = code == ResponseCode::NoError || code == ResponseCode::NXDomain;
        answer.metadata.response_code = code;
        answer.add_query(self.query.clone());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST);
            answer.set_edns(edns);
        }
        answer
    }

    /// The bytes of an answer; one that is longer than there is room for says so and is asked for again by TCP.
    pub(crate) fn bytes(answer: &Message, room: usize) -> Option<Vec<u8>> {
        let bytes = answer.to_vec().ok()?;
        if bytes.len() <= room { Some(bytes) } else { answer.truncate().to_vec().ok() }
    }

    /// Whether these bytes of another server answer this question, under this number.
    pub(crate) fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        // The bytes of the name are compared as they are, with upper and lower case: what a server does not repeat is not
        // its answer (draft-vixie-dnsext-dns0x20).
        let is_answer = bytes.get(2).is_some_and(|flags| flags & 0x80 != 0);
        let is_same_id = bytes.get(..2) == Some(&id.to_be_bytes());
        is_answer && is_same_id && Message::from_vec(bytes).is_ok_and(|answer| answer.queries == self.message.queries)
    }
}

/// An answer to what could not be read: its header alone.
fn refusal(id: u16, code: ResponseCode) -> Vec<u8> {
    Message::error_msg(id, OpCode::Query, code).to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::dns) fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_utf8(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    #[test]
    fn addresses_of_the_family_that_is_asked_for_are_told_and_none_of_the_other() {
        let all: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        for (kind, count) in [(RecordType::A, 1), (RecordType::AAAA, 1), (RecordType::ANY, 2), (RecordType::MX, 0)] {
            let question = Question::read(&query("web.", kind)).unwrap();
            let answer = question.addresses(&all);
            assert_eq!((answer.answers.len(), answer.metadata.response_code), (count, ResponseCode::NoError), "{kind}");
            assert_eq!((question.name().as_str(), question.id()), ("web", 4711));
        }
    }

    #[test]
    fn an_answer_is_never_answered_and_nonsense_gets_no_more_than_a_header() {
        let mut bytes = query("web.", RecordType::A);
        bytes[2] |= 0x80;
        assert_eq!(Question::read(&bytes).unwrap_err(), Unasked::Silence);
        assert_eq!(Question::read(&[1, 2, 3]).unwrap_err(), Unasked::Silence);
        let mut status = query("web.", RecordType::A);
        status[2] |= 2 << 3;
        let mut cut = query("web.", RecordType::A);
        cut.truncate(14);
        for bad in [status, cut] {
            let Unasked::Answered(answer) = Question::read(&bad).unwrap_err() else { panic!("silent") };
            assert_eq!(answer.len(), HEADER, "no amplification");
        }
    }

    #[test]
    fn an_answer_that_is_too_long_is_cut_and_says_so() {
        let all: Vec<IpAddr> = (0..200).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let question = Question::read(&query("tasks.web.", RecordType::A)).unwrap();
        assert_eq!(question.room(), 512);
        let answer = question.addresses(&all);
        let short = Message::from_vec(&Question::bytes(&answer, question.room()).unwrap()).unwrap();
        assert!(short.metadata.truncation && short.answers.is_empty());
        let long = Message::from_vec(&Question::bytes(&answer, 65_535).unwrap()).unwrap();
        assert_eq!((long.metadata.truncation, long.answers.len()), (false, 200));
    }

    #[test]
    fn only_an_answer_to_this_question_with_this_number_counts() {
        let question = Question::read(&query("debian.org.", RecordType::A)).unwrap();
        let mut good = question.answer(ResponseCode::NoError);
        good.metadata.id = 9;
        assert!(question.is_answered_by(&good.to_vec().unwrap(), 9));
        assert!(!question.is_answered_by(&good.to_vec().unwrap(), 10));
        let other = Question::read(&query("evil.org.", RecordType::A)).unwrap();
        assert!(!other.is_answered_by(&good.to_vec().unwrap(), 9));
        assert!(!question.is_answered_by(&query("debian.org.", RecordType::A), 4711), "a question is no answer");
    }
}
