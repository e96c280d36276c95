//! Builds a query from fixed text and typed parameters, and pages through any order by its sort key.
//! No text of a reader ever becomes part of the SQL.

use clickhouse::Client;
use clickhouse::query::Query;

use crate::cursor::PageRequest;
use crate::error::PortalError;
use crate::model::Page;

/// A query with its parameters.
#[derive(Clone, Debug, Default)]
pub struct Select {
    text: String,
    parameters: Vec<(String, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Integer(i64),
    Texts(Vec<String>),
}

impl Select {
    /// A query; `text` must be made of constants alone.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), parameters: Vec::new() }
    }

    /// Sets `{name:String}`.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), Value::Text(value.to_owned())));
        self
    }

    /// Sets `{name:Int64}` and the like.
    pub fn integer(mut self, name: &str, value: i64) -> Self {
        self.parameters.push((name.to_owned(), Value::Integer(value)));
        self
    }

    /// Sets `{name:Array(String)}`.
    pub fn texts(mut self, name: &str, values: Vec<String>) -> Self {
        self.parameters.push((name.to_owned(), Value::Texts(values)));
        self
    }

    /// Takes the parameters of these conditions, whose text is already in the query.
    pub fn conditions(mut self, conditions: Conditions) -> Self {
        self.parameters.extend(conditions.parameters);
        self
    }

    pub(super) fn into_query(self, client: &Client) -> Query {
        // The client reads `?` as a placeholder of its own.
        let mut query = client.query(&self.text.replace('?', "??"));
        for (name, value) in self.parameters {
            query = match value {
                Value::Text(value) => query.param(&name, value),
                Value::Integer(value) => query.param(&name, value),
                Value::Texts(values) => query.param(&name, values),
            };
        }
        query
    }
}

/// Conditions that are joined by AND.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    parts: Vec<String>,
    parameters: Vec<(String, Value)>,
}

impl Conditions {
    /// No condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// A condition of constants alone.
    pub fn always(mut self, sql: impl Into<String>) -> Self {
        self.parts.push(sql.into());
        self
    }

    /// `column = value`.
    pub fn equal(self, column: &str, value: &str) -> Self {
        let name = format!("p{}", self.parameters.len());
        self.with(format!("{column} = {{{name}:String}}"), name, Value::Text(value.to_owned()))
    }

    /// `column = value` on the one column that a table is hash-partitioned by: the partition follows from the value, but
    /// ClickHouse leaves the others unread only when it is written down.
    pub fn equal_partition(self, column: &str, value: &str) -> Self {
        let name = format!("p{}", self.parameters.len());
        self.equal(column, value)
            .always(format!("cityHash64({column}) % 16 = cityHash64({{{name}:String}}) % 16"))
    }

    /// `column = value` where there is a value.
    pub fn equal_if(self, column: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.equal(column, value),
            None => self,
        }
    }

    /// Any of the expressions contains the text, whatever its case.
    pub fn contains_if(self, expressions: &[&str], value: Option<&str>) -> Self {
        let Some(value) = value else { return self };
        let name = format!("p{}", self.parameters.len());
        let parts: Vec<String> = expressions
            .iter()
            .map(|expression| format!("positionCaseInsensitiveUTF8({expression}, {{{name}:String}}) > 0"))
            .collect();
        self.with(format!("({})", parts.join(" OR ")), name, Value::Text(value.to_owned()))
    }

    /// Only what lies behind the page before.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] if the cursor's key does not fit the order.
    pub fn after(mut self, order: &Order, page: &PageRequest) -> Result<Self, PortalError> {
        let Some(key) = &page.after else { return Ok(self) };
        let wrong =
            || PortalError::bad_request("the cursor does not fit this list", "begin again without a cursor");
        if key.len() != order.columns.len() {
            return Err(wrong());
        }
        let mut slots = Vec::new();
        for (index, ((_, kind), value)) in order.columns.iter().zip(key).enumerate() {
            let name = format!("after{index}");
            let (sql_type, value) = match kind {
                Kind::Text => ("String", Value::Text(value.clone())),
                Kind::Integer => ("Int64", Value::Integer(value.parse().map_err(|_| wrong())?)),
            };
            slots.push(format!("{{{name}:{sql_type}}}"));
            self.parameters.push((name, value));
        }
        self.parts.push(format!("({}) > ({})", order.list(), slots.join(", ")));
        Ok(self)
    }

    /// The same parameters below another text.
    pub fn replaced(self, sql: String) -> Self {
        Self { parts: vec![sql], parameters: self.parameters }
    }

    fn with(mut self, sql: String, name: String, value: Value) -> Self {
        self.parts.push(sql);
        self.parameters.push((name, value));
        self
    }

    /// The text behind WHERE.
    pub fn sql(&self) -> String {
        if self.parts.is_empty() { "1".to_owned() } else { self.parts.join(" AND ") }
    }
}

/// Type of one part of a sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// String.
    Text,
    /// Int64.
    Integer,
}

/// An ascending order that tells any two rows apart. (For a descending part negate the expression.)
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Expressions with their types.
    pub columns: &'static [(&'static str, Kind)],
}

impl Order {
    /// The expressions, for ORDER BY and comparisons.
    pub fn list(&self) -> String {
        let expressions: Vec<&str> = self.columns.iter().map(|(expression, _)| *expression).collect();
        expressions.join(", ")
    }

    /// The sort key as a column, which [`page_of`] turns into the cursor.
    pub fn key_column(&self) -> String {
        let expressions: Vec<String> =
            self.columns.iter().map(|(expression, _)| format!("toString({expression})")).collect();
        format!("[{}] AS page_key", expressions.join(", "))
    }
}

/// A row that carries its sort key.
pub trait Keyed {
    /// The value of [`Order::key_column`].
    fn page_key(&self) -> &[String];
}

/// Rows to ask for: one more than wanted tells whether there is a next page.
pub fn rows_wanted(page: &PageRequest) -> i64 {
    i64::from(page.limit) + 1
}

/// Cuts the surplus row off and makes the cursor.
pub fn page_of<R: Keyed, T>(
    page: &PageRequest,
    mut rows: Vec<R>,
    convert: impl Fn(R) -> Result<T, PortalError>,
) -> Result<Page<T>, PortalError> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = if more { rows.last().map(|row| page.cursor_after(row.page_key())) } else { None };
    let items = rows.into_iter().map(convert).collect::<Result<_, _>>()?;
    Ok(Page { items, next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Order = Order { columns: &[("-priority", Kind::Integer), ("name", Kind::Text)] };

    #[test]
    fn conditions_hold_no_values() {
        let conditions = Conditions::new()
            .equal("kind", "os' OR 1")
            .equal_if("severity", None)
            .contains_if(&["name", "purl"], Some("<script>"));
        assert_eq!(
            conditions.sql(),
            "kind = {p0:String} AND (positionCaseInsensitiveUTF8(name, {p1:String}) > 0 OR \
             positionCaseInsensitiveUTF8(purl, {p1:String}) > 0)"
        );
        assert_eq!(Conditions::new().sql(), "1");
    }

    #[test]
    fn a_page_begins_behind_its_cursor() {
        let first = PageRequest::new(&["q"], Some(2), None).unwrap();
        assert_eq!(Conditions::new().after(&ORDER, &first).unwrap().sql(), "1");
        let key = vec!["-70".to_owned(), "a".to_owned()];
        let next = PageRequest::new(&["q"], Some(2), Some(&first.cursor_after(&key))).unwrap();
        let sql = Conditions::new().after(&ORDER, &next).unwrap().sql();
        assert_eq!(sql, "(-priority, name) > ({after0:Int64}, {after1:String})");
        for bad in [vec!["x".to_owned(), "a".to_owned()], vec!["1".to_owned()]] {
            let page = PageRequest::new(&["q"], Some(2), Some(&first.cursor_after(&bad))).unwrap();
            assert!(Conditions::new().after(&ORDER, &page).is_err());
        }
    }

    struct Row(Vec<String>);

    impl Keyed for Row {
        fn page_key(&self) -> &[String] {
            &self.0
        }
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let page = PageRequest::new(&["q"], Some(2), None).unwrap();
        let rows = |count: usize| (0..count).map(|n| Row(vec![n.to_string()])).collect::<Vec<_>>();
        let cut = |count| page_of(&page, rows(count), |row| Ok(row.0[0].clone())).unwrap();
        assert_eq!((cut(2).items.len(), cut(2).next_cursor), (2, None));
        assert_eq!(cut(3).items.len(), 2);
        assert_eq!(cut(3).next_cursor, Some(page.cursor_after(&["1".to_owned()])));
    }
}
