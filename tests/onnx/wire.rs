//! ONNX files by hand: protobuf's wire format, sharing nothing with the reader.

/// A field of a message: bytes, string or message.
pub fn bytes(tag: u64, value: &[u8]) -> Vec<u8> {
    let mut out = varint(tag << 3 | 2);
    out.extend(varint(value.len() as u64));
    out.extend_from_slice(value);
    out
}

/// A field that is an integer.
pub fn int(tag: u64, value: i64) -> Vec<u8> {
    let mut out = varint(tag << 3);
    out.extend(varint(value as u64));
    out
}

fn float(tag: u64, value: f32) -> Vec<u8> {
    let mut out = varint(tag << 3 | 5);
    out.extend(value.to_le_bytes());
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Where a tensor's numbers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    RawF32,
    RawF64,
    RawF16,
    RawBf16,
    Floats,
    Doubles,
    F16Bits,
    RawI32,
    RawI64,
}

impl Stored {
    pub const REALS: [Self; 7] =
        [Self::RawF32, Self::RawF64, Self::RawF16, Self::RawBf16, Self::Floats, Self::Doubles, Self::F16Bits];

    fn data_type(self) -> i64 {
        match self {
            Self::RawF32 | Self::Floats => 1,
            Self::RawI32 => 6,
            Self::RawI64 => 7,
            Self::RawF16 | Self::F16Bits => 10,
            Self::RawF64 | Self::Doubles => 11,
            Self::RawBf16 => 16,
        }
    }
}

/// `TensorProto`
pub fn tensor(name: &str, dims: &[usize], stored: Stored, values: &[f64]) -> Vec<u8> {
    let dims = dims.iter().flat_map(|&d| int(1, d as i64));
    let each = |f: &dyn Fn(f64) -> Vec<u8>| values.iter().flat_map(|&v| f(v)).collect::<Vec<u8>>();
    let data = match stored {
        Stored::RawF32 => bytes(9, &each(&|v| (v as f32).to_le_bytes().to_vec())),
        Stored::RawF64 => bytes(9, &each(&|v| v.to_le_bytes().to_vec())),
        Stored::RawF16 => bytes(9, &each(&|v| half::f16::from_f64(v).to_le_bytes().to_vec())),
        Stored::RawBf16 => bytes(9, &each(&|v| half::bf16::from_f64(v).to_le_bytes().to_vec())),
        Stored::RawI32 => bytes(9, &each(&|v| (v as i32).to_le_bytes().to_vec())),
        Stored::RawI64 => bytes(9, &each(&|v| (v as i64).to_le_bytes().to_vec())),
        Stored::Floats => bytes(4, &each(&|v| (v as f32).to_le_bytes().to_vec())),
        Stored::Doubles => bytes(10, &each(&|v| v.to_le_bytes().to_vec())),
        Stored::F16Bits => bytes(5, &each(&|v| varint(half::f16::from_f64(v).to_bits().into()))),
    };
    dims.chain(int(2, stored.data_type())).chain(bytes(8, name.as_bytes())).chain(data).collect()
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Floats(&'a [f32]),
    Texts(&'a [&'a str]),
    Tensor(Vec<u8>),
    Graph(Vec<u8>),
}

/// `AttributeProto`
pub fn attribute(name: &str, value: &Value<'_>) -> Vec<u8> {
    let (kind, data) = match value {
        Value::Float(v) => (1, float(2, *v)),
        Value::Int(v) => (2, int(3, *v)),
        Value::Text(v) => (3, bytes(4, v.as_bytes())),
        Value::Tensor(v) => (4, bytes(5, v)),
        Value::Graph(v) => (5, bytes(6, v)),
        Value::Floats(v) => (6, v.iter().flat_map(|v| float(7, *v)).collect()),
        Value::Texts(v) => (8, v.iter().flat_map(|v| bytes(9, v.as_bytes())).collect()),
    };
    [bytes(1, name.as_bytes()), data, int(20, kind)].concat()
}

/// `NodeProto`
pub fn node(op: &str, name: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value<'_>)]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|n| bytes(1, n.as_bytes()));
    let outputs = outputs.iter().flat_map(|n| bytes(2, n.as_bytes()));
    let attributes = attributes.iter().flat_map(|(name, value)| bytes(5, &attribute(name, value)));
    let names = bytes(3, name.as_bytes()).into_iter().chain(bytes(4, op.as_bytes()));
    inputs.chain(outputs).chain(names).chain(attributes).collect()
}

/// `GraphProto` of nodes, initialisers and names of inputs.
pub fn graph(nodes: &[Vec<u8>], initialisers: &[Vec<u8>], inputs: &[&str]) -> Vec<u8> {
    let nodes = nodes.iter().flat_map(|n| bytes(1, n));
    let initialisers = initialisers.iter().flat_map(|t| bytes(5, t));
    let inputs = inputs.iter().flat_map(|n| bytes(11, &bytes(1, n.as_bytes())));
    nodes.chain(bytes(2, b"main")).chain(initialisers).chain(inputs).collect()
}

/// `ModelProto`
pub fn model(opset: i64, graph: &[u8]) -> Vec<u8> {
    [int(1, 10), bytes(8, &int(2, opset)), bytes(7, graph)].concat()
}
