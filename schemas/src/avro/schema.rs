//! A writer's schema, parsed once and walked for each record.
//! It must never accept a schema that could make decoding run without end.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::{AvroError, DEPTH_MAX};

/// Most nodes of a schema.
const NODES_MAX: usize = 10_000;

/// Index of a node in its schema.
pub(super) type NodeId = usize;

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Record),
}

/// A record's fields in the order in which they were written.
#[derive(Debug)]
pub(super) struct Record {
    pub fields: Vec<(String, NodeId)>,
    /// Made when the first value is read into a struct.
    plan: OnceLock<Plan>,
}

/// Where the written fields stand in the struct that reads them: found once, so that no value is read by comparing
/// names.
#[derive(Debug)]
pub(super) struct Plan {
    /// The names of the struct's fields that this is for.
    names: &'static [&'static str],
    /// By written field: the field's index in the struct, [`UNREAD`] of one that the struct lacks.
    pub indexes: Vec<u64>,
}

/// Index of no field.
pub(super) const UNREAD: u64 = u64::MAX;

impl Record {
    fn new(fields: Vec<(String, NodeId)>) -> Self {
        Self { fields, plan: OnceLock::new() }
    }

    /// The plan for a struct with these fields; `None` for another struct than the first that asked.
    pub fn plan(&self, names: &'static [&'static str]) -> Option<&Plan> {
        let plan = self.plan.get_or_init(|| {
            let index = |name: &String| names.iter().position(|known| known == name);
            let indexes = self.fields.iter().map(|(name, _)| index(name).map_or(UNREAD, |at| at as u64));
            Plan { names, indexes: indexes.collect() }
        });
        (std::ptr::eq(plan.names, names) || plan.names == names).then_some(plan)
    }
}

/// The schema that a record was written with.
#[derive(Debug)]
pub struct WriterSchema {
    nodes: Vec<Node>,
    root: NodeId,
    record: String,
}

impl WriterSchema {
    /// Parses a schema's JSON.
    ///
    /// # Errors
    /// If it is no Avro schema, or is over a bound.
    pub fn parse(json: &str) -> Result<Self, AvroError> {
        let value: Value = serde_json::from_str(json).map_err(|error| AvroError::new(error.to_string()))?;
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new() };
        let root = parser.node(&value, "", 0)?;
        let record = value["name"].as_str().unwrap_or_default();
        let record = record.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Self { nodes: parser.nodes, root, record })
    }

    /// Name of the outermost record without its namespace; empty if it is no record.
    pub fn record(&self) -> &str {
        &self.record
    }

    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }
}

struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

impl Parser {
    fn push(&mut self, node: Node) -> Result<NodeId, AvroError> {
        if self.nodes.len() >= NODES_MAX {
            return Err(AvroError::new(format!("a schema of more than {NODES_MAX} parts")));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn node(&mut self, schema: &Value, namespace: &str, depth: usize) -> Result<NodeId, AvroError> {
        if depth > DEPTH_MAX {
            return Err(AvroError::new(format!("a schema nested deeper than {DEPTH_MAX}")));
        }
        match schema {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.node(branch, namespace, depth + 1))
                    .collect::<Result<_, _>>()?;
                self.push(Node::Union(branches))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, schema, namespace, depth),
                Some(inner) => self.node(inner, namespace, depth + 1),
                None => Err(AvroError::new("a schema without a type")),
            },
            _ => Err(AvroError::new("a schema that is no name, list or object")),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, AvroError> {
        let primitive = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            _ => {
                let known = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
                return known
                    .copied()
                    .ok_or_else(|| AvroError::new(format!("a schema with the unknown type {name}")));
            }
        };
        self.push(primitive)
    }

    fn complex(
        &mut self,
        kind: &str,
        schema: &Value,
        namespace: &str,
        depth: usize,
    ) -> Result<NodeId, AvroError> {
        match kind {
            "array" => {
                let items = self.node(&schema["items"], namespace, depth + 1)?;
                self.push(Node::Array(items))
            }
            "map" => {
                let values = self.node(&schema["values"], namespace, depth + 1)?;
                self.push(Node::Map(values))
            }
            "enum" => {
                let symbols =
                    schema["symbols"].as_array().ok_or_else(|| AvroError::new("an enum without symbols"))?;
                let symbols =
                    symbols.iter().map(|symbol| symbol.as_str().unwrap_or_default().to_owned()).collect();
                let id = self.push(Node::Enum(symbols))?;
                self.define(schema, namespace, id);
                Ok(id)
            }
            "fixed" => {
                let size = schema["size"].as_u64().and_then(|size| usize::try_from(size).ok());
                let id = self
                    .push(Node::Fixed(size.ok_or_else(|| AvroError::new("a fixed type without a size"))?))?;
                self.define(schema, namespace, id);
                Ok(id)
            }
            "record" => {
                let id = self.push(Node::Null)?;
                let namespace = self.define(schema, namespace, id);
                let fields =
                    schema["fields"].as_array().ok_or_else(|| AvroError::new("a record without fields"))?;
                let mut parsed = Vec::with_capacity(fields.len());
                for field in fields {
                    let name =
                        field["name"].as_str().ok_or_else(|| AvroError::new("a field without a name"))?;
                    parsed.push((name.to_owned(), self.node(&field["type"], &namespace, depth + 1)?));
                }
                self.nodes[id] = Node::Record(Record::new(parsed));
                Ok(id)
            }
            primitive => self.named(primitive, namespace),
        }
    }

    /// Makes a named type known; gives the namespace for what lies within it.
    fn define(&mut self, schema: &Value, namespace: &str, id: NodeId) -> String {
        let name = schema["name"].as_str().unwrap_or_default();
        let namespace = schema["namespace"].as_str().unwrap_or(namespace);
        let full = full_name(name, namespace);
        let inner = full.rsplit_once('.').map(|(namespace, _)| namespace.to_owned()).unwrap_or_default();
        self.names.insert(full, id);
        inner
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
