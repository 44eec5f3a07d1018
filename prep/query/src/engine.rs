//! All that is known of DataFusion: SQL conditions, a decoder as a table, the scan of a Parquet file.
//!
//! A table is fed by hand: when DataFusion asks for a batch that is not there it is told to wait, the batch is fetched from the
//! caller's iterator outside of it, and it is polled again. So the iterator may do as it likes (block, run an executor, fail
//! with any error), plans have one partition, the order is kept, and no runtime or thread is needed.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use arrow_array::{ArrayRef, RecordBatch, StringViewArray, UInt64Array, new_null_array};
use arrow_schema::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::{
    Between, ColumnarValue, Expr, ExprSchemable, Operator, ScalarUDF, Volatility, create_udf, ident,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast::{self, VisitMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use futures::executor::block_on;
use futures::{Stream, StreamExt};

use crate::error::Error;
use crate::schema::{in_words, schema};

/// Rows of a batch that DataFusion makes.
pub(crate) const BATCH_ROWS: usize = 8192;

/// What a condition may have besides values. Expressions are worked on by recursion.
const WORDS_MAX: usize = 500;

fn context() -> SessionContext {
    // Statistics must not be believed: DataFusion takes a column for constant whose least and largest value are the same, and
    // they leave out NaN.
    let mut config =
        SessionConfig::new().with_collect_statistics(false).with_target_partitions(1).with_batch_size(BATCH_ROWS);
    config.options_mut().sql_parser.enable_ident_normalization = false;
    SessionContext::new_with_state(SessionStateBuilder::new().with_config(config).with_default_features().build())
}

/// A condition for a message: not longer than one can read.
fn shown(condition: &str) -> String {
    const LENGTH_MAX: usize = 200;
    let mut text: String = condition.chars().take(LENGTH_MAX).collect();
    if text.len() < condition.len() {
        text.push_str("...");
    }
    text
}

/// Does `work` where recursion may be deep. Planning is not optimised, and its frames are large.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    const STACK_BYTES: usize = 64 << 20;
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        thread.expect("a thread can be started").join()
    });
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

fn words(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let kinds = [
        "Error during planning: ",
        "Schema error: ",
        "External error: ",
        "Parquet error: ",
        "Arrow error: ",
        "Parquet argument error: ",
        "Cast error: ",
        "Execution error: ",
    ];
    let mut lines = text.lines().filter(|line| *line != "caused by" && !line.starts_with("Optimizer rule"));
    let text = lines.next().unwrap_or_default();
    kinds.iter().fold(text, |text, kind| text.strip_prefix(kind).unwrap_or(text)).to_owned()
}

/// A checked condition on a row: any boolean SQL expression over its columns, without queries and aggregates.
///
/// Names of columns may be written in any case. A token is compared with text byte by byte; in everything else, as in `LIKE`,
/// it is text in which bytes that are not UTF-8 are replaced by U+FFFD. What is missing is null, and a row is kept only if
/// the condition is true: `I2 <> 5` and `NOT C3 LIKE 'a%'` exclude rows where `I2` or `C3` is missing.
#[derive(Clone)]
pub struct Filter {
    text: String,
    labelled: bool,
    expr: Expr,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("text", &self.text).field("labelled", &self.labelled).finish_non_exhaustive()
    }
}

impl Filter {
    /// Checks `condition` on rows with or without labels.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(condition: &str, labelled: bool) -> Result<Self, Error> {
        on_large_stack(|| Self::check(condition, labelled))
    }

    fn check(condition: &str, labelled: bool) -> Result<Self, Error> {
        let (parsed, text) = parse(condition, labelled)?;
        let wrong = |problem: String| Error::Condition { condition: shown(condition), problem };
        let context = context();
        let columns = DFSchema::try_from(schema(labelled)).map_err(|e| wrong(words(&e)))?;
        let parsed = ast::ExprWithAlias { expr: parsed, alias: None };
        let expr = context.state().create_logical_expr_from_sql_expr(parsed, &columns).map_err(|e| wrong(words(&e)))?;
        let not_allowed = |what| Error::NotAllowed { condition: shown(condition), what };
        let has = |test: fn(&Expr) -> bool| expr.exists(|e| Ok(test(e))).expect("looking does not fail");
        if has(|e| matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_))) {
            return Err(not_allowed("a function of many rows"));
        }
        if has(|e| matches!(e, Expr::Placeholder(_) | Expr::ScalarVariable(..))) {
            return Err(not_allowed("a variable"));
        }
        if expr.is_volatile() {
            return Err(not_allowed("a function that differs from run to run"));
        }
        let expr = with_tokens(expr, &columns).map_err(|e| wrong(words(&e)))?;
        let found = expr.get_type(&columns).map_err(|e| wrong(words(&e)))?;
        if found != DataType::Boolean {
            let found = found.to_string();
            return Err(Error::NotBoolean { condition: shown(condition), found });
        }
        // What cannot be compared, and constants that cannot be computed, show on a row of which nothing is known.
        let row = context.read_batch(unknown_row(labelled)).and_then(|row| row.filter(expr.clone()));
        row.and_then(|row| block_on(row.collect())).map_err(|e| wrong(words(&e)))?;
        Ok(Self { text, labelled, expr })
    }

    /// The condition in its normal form: the same for conditions that differ in spaces, brackets of names and case only.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is about rows with labels.
    #[must_use]
    pub fn labelled(&self) -> bool {
        self.labelled
    }
}

/// A row of which nothing is known but its number.
fn unknown_row(labelled: bool) -> RecordBatch {
    let schema = schema(labelled);
    let columns = schema.fields().iter().map(|field| match field.is_nullable() {
        true => new_null_array(field.data_type(), 1),
        false => Arc::new(UInt64Array::from(vec![0])) as ArrayRef,
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).expect("the columns are those of the schema")
}

/// The syntax tree of `condition`, with the names of columns as the schema has them, and its normal form.
fn parse(condition: &str, labelled: bool) -> Result<(ast::Expr, String), Error> {
    let syntax = |column: u64, problem: String| Error::Syntax { condition: shown(condition), column, problem };
    let failed = |error: ParserError| match error {
        ParserError::RecursionLimitExceeded => syntax(1, "brackets are nested too deeply".to_owned()),
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
            // Lines are not told apart: a condition is one line.
            let (problem, place) = text.rsplit_once(" at Line: ").unwrap_or((&text, ""));
            let column = place.rsplit_once("Column: ").and_then(|(_, column)| column.trim().parse().ok());
            let end = condition.chars().count() as u64 + 1;
            let problem = problem.replace("Expected: ", "expected ").replace("found: EOF", "found the end");
            syntax(column.filter(|&column| column > 0).unwrap_or(end), problem.replace("found: ", "found "))
        }
    };
    let one_line = condition.replace(['\n', '\r'], " ");
    let dialect = GenericDialect {};
    let tokenized = Tokenizer::new(&dialect, &one_line).tokenize_with_location();
    let tokens = tokenized.map_err(|e| failed(ParserError::TokenizerError(e.to_string())))?;
    let counted = |token: &&TokenWithSpan| {
        use Token::{Comma, Number, SingleQuotedString, Whitespace};
        !matches!(token.token, Whitespace(_) | Comma | Number(..) | SingleQuotedString(_))
    };
    if let Some(token) = tokens.iter().filter(counted).nth(WORDS_MAX) {
        let problem = format!(
            "more than {WORDS_MAX} names and operators; a list of values, as in `C1 IN ('a', 'b')`, has no limit"
        );
        return Err(syntax(token.span.start.column, problem));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut parsed = parser.parse_expr().map_err(failed)?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(syntax(rest.span.start.column, format!("expected AND, OR or the end, found {}", rest.token)));
    }
    match parsed.visit(&mut Names { condition, labelled }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => {
            let text = parsed.to_string();
            Ok((parsed, text))
        }
    }
}

/// Gives columns their names, and refuses what is no matter of one row.
struct Names<'a> {
    condition: &'a str,
    labelled: bool,
}

impl Names<'_> {
    fn column(&self, name: &mut ast::Ident) -> Result<(), Error> {
        let condition = || shown(self.condition);
        let column = name.span.start.column;
        match schema(true).fields().iter().find(|field| field.name().eq_ignore_ascii_case(&name.value)) {
            Some(found) if found.name() == "label" && !self.labelled => {
                return Err(Error::NoLabels { condition: condition(), column });
            }
            Some(found) => *name = ast::Ident { value: found.name().clone(), quote_style: None, span: name.span },
            None => {
                let (quoted, columns) = (name.quote_style.is_some(), in_words(self.labelled));
                let name = name.value.clone();
                return Err(Error::UnknownColumn { condition: condition(), column, name, columns, quoted });
            }
        }
        Ok(())
    }
}

impl ast::VisitorMut for Names<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Error> {
        ControlFlow::Break(Error::NotAllowed { condition: shown(self.condition), what: "a query" })
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        let result = match expr {
            ast::Expr::Identifier(name) => self.column(name),
            ast::Expr::CompoundIdentifier(names) => {
                let whole = names.iter().map(|name| name.value.clone()).collect::<Vec<_>>().join(".");
                self.column(&mut ast::Ident { value: whole, ..names[0].clone() })
            }
            ast::Expr::Function(function) => {
                for part in &mut function.name.0 {
                    if let ast::ObjectNamePart::Identifier(name) = part {
                        name.value = name.value.to_lowercase();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        };
        result.map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }
}

/// `expr` with tokens in the form that their use asks for: bytes where they are compared with text, else text.
fn with_tokens(expr: Expr, columns: &DFSchema) -> Result<Expr, DataFusionError> {
    let text = text_function();
    let rewritten = expr.transform_down(|mut expr| {
        if is_token(&expr, columns) {
            return Ok(Transformed::new(text.call(vec![expr]), true, TreeNodeRecursion::Jump));
        }
        let of_bytes = |mut operands: Vec<&mut Expr>| -> Result<bool, DataFusionError> {
            if !operands.iter().any(|e| is_token(e, columns)) {
                return Ok(false);
            }
            for other in &operands {
                let found = other.get_type(columns)?;
                if !is_token(other, columns) && !is_text(&found) && found != DataType::Null {
                    let problem = format!("a token is compared with `{other}`, which is of the type {found}");
                    return Err(DataFusionError::Plan(problem));
                }
            }
            let plain = |e: &&mut Expr| is_token(e, columns) || matches!(&**e, Expr::Literal(..));
            if !operands.iter().all(plain) {
                return Ok(false);
            }
            operands.iter_mut().for_each(|e| to_bytes(e));
            Ok(true)
        };
        let done = match &mut expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => of_bytes(vec![left, right])?,
            Expr::InList(InList { expr, list, .. }) => {
                of_bytes([&mut **expr].into_iter().chain(list.iter_mut()).collect())?
            }
            Expr::Between(Between { expr, low, high, .. }) => of_bytes(vec![expr, low, high])?,
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_token(inner, columns),
            _ => false,
        };
        let next = if done { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue };
        Ok(Transformed::new(expr, true, next))
    })?;
    Ok(rewritten.data)
}

fn is_token(expr: &Expr, columns: &DFSchema) -> bool {
    matches!(expr, Expr::Column(Column { name, .. }) if name.starts_with('C') && columns.has_column_with_unqualified_name(name))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn to_bytes(expr: &mut Expr) {
    if let Expr::Literal(value, _) = expr
        && let Some(text) = value.try_as_str()
    {
        *value = ScalarValue::BinaryView(text.map(|text| text.as_bytes().to_vec()));
    }
}

/// The text of a token.
fn text_function() -> ScalarUDF {
    let text = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let tokens = datafusion::common::cast::as_binary_view_array(&arrays[0])?;
        let text: StringViewArray = tokens.iter().map(|token| token.map(String::from_utf8_lossy)).collect();
        Ok(ColumnarValue::Array(Arc::new(text)))
    };
    create_udf("text", vec![DataType::BinaryView], DataType::Utf8View, Volatility::Immutable, Arc::new(text))
}

/// What has been fetched for DataFusion.
#[derive(Debug, Default)]
struct Supply {
    batches: VecDeque<RecordBatch>,
    ended: bool,
}

/// A table of which batches are handed in one by one.
#[derive(Debug)]
struct Feed {
    schema: SchemaRef,
    supply: Arc<Mutex<Supply>>,
}

impl PartitionStream for Feed {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let supply = Arc::clone(&self.supply);
        let stream = futures::stream::poll_fn(move |_| {
            let mut supply = supply.lock().unwrap_or_else(PoisonError::into_inner);
            match supply.batches.pop_front() {
                Some(batch) => Poll::Ready(Some(Ok(batch))),
                None if supply.ended => Poll::Ready(None),
                None => Poll::Pending,
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}

/// The result of a plan over batches that an iterator gives.
struct Fed<I> {
    source: I,
    supply: Arc<Mutex<Supply>>,
    stream: SendableRecordBatchStream,
    over: bool,
}

impl<I> Fed<I> {
    fn new(
        labelled: bool,
        source: I,
        plan: impl FnOnce(&SessionContext, Arc<dyn TableProvider>) -> Result<DataFrame, DataFusionError> + Send,
    ) -> Result<Self, DataFusionError> {
        let supply = Arc::<Mutex<Supply>>::default();
        let feed = Feed { schema: schema(labelled), supply: Arc::clone(&supply) };
        let table = StreamingTable::try_new(schema(labelled), vec![Arc::new(feed)])?;
        let stream = on_large_stack(|| {
            let plan = plan(&context(), Arc::new(table))?;
            block_on(plan.execute_stream())
        })?;
        Ok(Self { source, supply, stream, over: false })
    }

    /// The next batch of the result; the error of the iterator as it is, that of the plan made by `failed`.
    fn next<E>(&mut self, failed: impl FnOnce(&DataFusionError) -> E) -> Option<Result<RecordBatch, E>>
    where
        I: Iterator<Item = Result<RecordBatch, E>>,
    {
        while !self.over {
            match Pin::new(&mut self.stream).poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(batch))) if batch.num_rows() == 0 => {}
                Poll::Ready(Some(Ok(batch))) => return Some(Ok(batch)),
                Poll::Ready(Some(Err(error))) => {
                    self.over = true;
                    return Some(Err(failed(&error)));
                }
                Poll::Ready(None) => self.over = true,
                Poll::Pending => {
                    let next = self.source.next();
                    let mut supply = self.supply.lock().unwrap_or_else(PoisonError::into_inner);
                    match next {
                        Some(Ok(batch)) => supply.batches.push_back(batch),
                        Some(Err(error)) => {
                            self.over = true;
                            return Some(Err(error));
                        }
                        None => supply.ended = true,
                    }
                }
            }
        }
        None
    }
}

/// The rows for which a condition is true, in order. An error of the iterator comes back as it was, and nothing after it.
pub struct Filtered<I> {
    fed: Fed<I>,
    condition: String,
}

impl<I> Filtered<I> {
    /// Takes rows from `batches`, whose schema is [`schema`](mod@crate::schema), as they are needed.
    ///
    /// # Errors
    /// A condition that cannot be planned.
    pub fn new(filter: &Filter, batches: I) -> Result<Self, Error> {
        let plan = |context: &SessionContext, table| context.read_table(table)?.filter(filter.expr.clone());
        let problem = |e| Error::Condition { condition: shown(&filter.text), problem: words(&e) };
        let fed = Fed::new(filter.labelled, batches, plan).map_err(problem)?;
        Ok(Self { fed, condition: shown(&filter.text) })
    }
}

impl<I, E> Iterator for Filtered<I>
where
    I: Iterator<Item = Result<RecordBatch, E>>,
    E: From<Error>,
{
    type Item = Result<RecordBatch, E>;

    fn next(&mut self) -> Option<Self::Item> {
        let condition = &self.condition;
        self.fed.next(|e| Error::Evaluation { condition: condition.clone(), problem: words(e) }.into())
    }
}

/// The answer to a query about the table `rows`, batch by batch.
pub struct Answer<I> {
    fed: Fed<I>,
    query: String,
}

impl<I> Answer<I> {
    /// Asks the SQL `query` about rows with or without labels, which are taken from `batches` as they are needed. The query
    /// may name the table `rows` once.
    ///
    /// # Errors
    /// A query that cannot be planned.
    pub fn new(query: &str, labelled: bool, batches: I) -> Result<Self, Error> {
        let plan = |context: &SessionContext, table| {
            context.register_table("rows", table)?;
            block_on(context.sql(query))
        };
        let fed = Fed::new(labelled, batches, plan)
            .map_err(|e| Error::Query { query: query.to_owned(), problem: words(&e) })?;
        Ok(Self { fed, query: query.to_owned() })
    }
}

impl<I, E> Iterator for Answer<I>
where
    I: Iterator<Item = Result<RecordBatch, E>>,
    E: From<Error>,
{
    type Item = Result<RecordBatch, E>;

    fn next(&mut self) -> Option<Self::Item> {
        let query = &self.query;
        self.fed.next(|e| Error::Query { query: query.clone(), problem: words(e) }.into())
    }
}

/// The answer to the SQL `query` about the table `rows`, which is the Parquet file, or folder of such files, at `path`.
///
/// # Errors
/// What is wrong with the query or the files.
pub fn parquet_answer(query: &str, path: &Path) -> Result<Vec<RecordBatch>, Error> {
    let ask = async {
        let context = context();
        context.register_parquet("rows", url(path)?, ParquetReadOptions::default().file_extension("")).await?;
        context.sql(query).await?.collect().await
    };
    block_on(ask).map_err(|e| Error::Query { query: query.to_owned(), problem: words(&e) })
}

/// A Parquet file before it is read.
pub(crate) struct Scan(DataFrame);

impl Scan {
    /// Looks at the file's footer; what is wrong comes in words.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let open = async {
            let options = ParquetReadOptions::default().file_extension("").skip_metadata(true);
            context().read_parquet(url(path)?, options).await
        };
        unharmed(|| block_on(open).map_err(|e| words(&e))).map(Self)
    }

    /// The file's columns, with views instead of other strings and bytes.
    pub(crate) fn schema(&self) -> &arrow_schema::Schema {
        self.0.schema().as_arrow()
    }

    /// The file's rows, in order, with the columns `names`.
    pub(crate) fn batches(
        self,
        names: &[String],
    ) -> Result<impl Iterator<Item = Result<RecordBatch, String>> + use<>, String> {
        let columns: Vec<Expr> = names.iter().map(ident).collect();
        let plan = self.0.select(columns).map_err(|e| words(&e))?;
        let mut stream = unharmed(|| block_on(plan.execute_stream()).map_err(|e| words(&e)))?;
        Ok(std::iter::from_fn(move || {
            unharmed(|| block_on(stream.next()).transpose().map_err(|e| words(&e))).transpose()
        }))
    }
}

/// What `read` says. The reader panics on some headers that nobody wrote on purpose; nothing it touched is used afterwards.
fn unharmed<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let contradiction = |_| Err("its headers contradict each other".to_owned());
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(contradiction)
}

/// `path` as a URL, so that nothing in it is taken for a pattern.
fn url(path: &Path) -> Result<String, DataFusionError> {
    let path = std::path::absolute(path)?;
    let mut url = "file://".to_owned();
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => url.push(byte.into()),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(if path.is_dir() { url + "/" } else { url })
}
