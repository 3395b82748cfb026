//! Protocol Buffers on the wire, as far as OTLP needs them (<https://protobuf.dev/programming-guides/encoding/>).
//! Every field is written, those too that hold their default.

/// A message under construction.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    /// The encoded message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A `bytes`.
    pub fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A `string`.
    pub fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message of its own.
    pub fn message(&mut self, field: u64, fill: impl FnOnce(&mut Message)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0)
    }

    /// An `int64`, `uint32`, `bool` or enum that is not negative.
    pub fn number(&mut self, field: u64, number: u64) -> &mut Self {
        self.varint(field << 3 | VARINT);
        self.varint(number);
        self
    }

    /// A `fixed32`.
    pub fn fixed32(&mut self, field: u64, number: u32) -> &mut Self {
        self.varint(field << 3 | FIXED32);
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// A `fixed64`, or an `sfixed64` that is not negative.
    pub fn fixed64(&mut self, field: u64, number: u64) -> &mut Self {
        self.varint(field << 3 | FIXED64);
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// A `double`.
    pub fn double(&mut self, field: u64, number: f64) -> &mut Self {
        self.fixed64(field, number.to_bits())
    }

    /// A packed list of `fixed64` or, by their bits, of `double`.
    pub fn packed(&mut self, field: u64, numbers: impl Iterator<Item = u64>) -> &mut Self {
        let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        self.bytes(field, &bytes)
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}
