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

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// `TensorProto` of f32.
pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, dims, 1, &bytes(9, &raw))
}

/// `TensorProto` of i64.
pub fn integers(name: &str, dims: &[usize], values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, dims, 7, &bytes(9, &raw))
}

/// `TensorProto` of i8.
pub fn narrow(name: &str, dims: &[usize], values: &[i8]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, dims, 3, &bytes(9, &raw))
}

/// `TensorProto` of f32 in another file.
pub fn external(name: &str, dims: &[usize], entries: &[(&str, &str)]) -> Vec<u8> {
    let entry =
        |(key, value): &(&str, &str)| bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat());
    let data = entries.iter().flat_map(entry).chain(int(14, 1)).collect::<Vec<_>>();
    tensor(name, dims, 1, &data)
}

fn tensor(name: &str, dims: &[usize], data_type: i64, data: &[u8]) -> Vec<u8> {
    let dims = dims.iter().flat_map(|&d| int(1, d as i64));
    dims.chain(int(2, data_type)).chain(bytes(8, name.as_bytes())).chain(data.iter().copied()).collect()
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(&'a [i64]),
    Graph(Vec<u8>),
    /// That attribute of the function that the node is in, an integer.
    Of(&'a str),
}

fn attribute(name: &str, value: &Value<'_>) -> Vec<u8> {
    let (kind, data) = match value {
        Value::Float(v) => (1, [varint(2 << 3 | 5), v.to_le_bytes().to_vec()].concat()),
        Value::Int(v) => (2, int(3, *v)),
        Value::Of(v) => (2, bytes(21, v.as_bytes())),
        Value::Text(v) => (3, bytes(4, v.as_bytes())),
        Value::Graph(v) => (5, bytes(6, v)),
        Value::Ints(v) => (7, v.iter().flat_map(|v| int(8, *v)).collect()),
    };
    [bytes(1, name.as_bytes()), data, int(20, kind)].concat()
}

/// `NodeProto`; `op` may have a domain before a colon.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value<'_>)]) -> Vec<u8> {
    let (domain, op) = op.split_once(':').unwrap_or(("", op));
    let inputs = inputs.iter().flat_map(|n| bytes(1, n.as_bytes()));
    let outputs = outputs.iter().flat_map(|n| bytes(2, n.as_bytes()));
    let attributes = attributes.iter().flat_map(|(name, value)| bytes(5, &attribute(name, value)));
    let names = bytes(4, op.as_bytes()).into_iter().chain(bytes(7, domain.as_bytes()));
    inputs.chain(outputs).chain(names).chain(attributes).collect()
}

/// An input or output of floats with those sizes.
pub fn value(name: &str, sizes: &[i64]) -> Vec<u8> {
    typed(name, sizes, 1)
}

/// The same of another element type.
pub fn typed(name: &str, sizes: &[i64], data_type: i64) -> Vec<u8> {
    let dims: Vec<u8> = sizes.iter().flat_map(|&d| bytes(1, &if d < 0 { bytes(2, b"n") } else { int(1, d) })).collect();
    let tensor = [int(1, data_type), bytes(2, &dims)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// `GraphProto` of nodes, initialisers, inputs and outputs.
pub fn graph(nodes: &[Vec<u8>], initialisers: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>]) -> Vec<u8> {
    let fields: [(u64, &[Vec<u8>]); 4] = [(1, nodes), (5, initialisers), (11, inputs), (12, outputs)];
    fields.into_iter().flat_map(|(tag, list)| list.iter().flat_map(move |item| bytes(tag, item))).collect()
}

/// `FunctionProto` of the domain `own`.
pub fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: &[Vec<u8>]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|n| bytes(4, n.as_bytes()));
    let outputs = outputs.iter().flat_map(|n| bytes(5, n.as_bytes()));
    let nodes = nodes.iter().flat_map(|n| bytes(7, n));
    bytes(1, name.as_bytes()).into_iter().chain(bytes(10, b"own")).chain(inputs).chain(outputs).chain(nodes).collect()
}

/// `ModelProto`
pub fn model(opset: i64, graph: &[u8], functions: &[Vec<u8>]) -> Vec<u8> {
    let functions = functions.iter().flat_map(|f| bytes(25, f));
    [int(1, 10), bytes(8, &int(2, opset)), bytes(7, graph)].concat().into_iter().chain(functions).collect()
}
