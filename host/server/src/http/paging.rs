//! Pages, columns and order of lists, as RabbitMQ's API has them for every list: `?page=1&page_size=100&name=x&
//! use_regex=true`, `?columns=name,vhost`, `?sort=name&sort_reverse=true`.
//!
//! Done with what the handlers answer: none of them knows of it.

use super::{body::BODY_BYTES_MAX, error::ApiError};
use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use leveret_access::Pattern;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 500;
/// The longest answer that is looked at again, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * BODY_BYTES_MAX;

/// What is asked of a list.
#[derive(Debug, Default)]
struct Wanted {
    page: Option<String>,
    page_size: Option<String>,
    name: Option<String>,
    use_regex: bool,
    columns: Vec<String>,
    sort: Option<String>,
    reversed: bool,
}

impl Wanted {
    fn of(query: &str) -> Self {
        let mut wanted = Self::default();
        for (key, value) in query.split('&').filter_map(|part| part.split_once('=')) {
            let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
            match key {
                "page" => wanted.page = Some(value),
                "page_size" => wanted.page_size = Some(value),
                "name" => wanted.name = Some(value).filter(|name| !name.is_empty()),
                "use_regex" => wanted.use_regex = value == "true",
                "columns" => wanted.columns = value.split(',').map(str::to_owned).collect(),
                "sort" => wanted.sort = Some(value).filter(|sort| !sort.is_empty()),
                "sort_reverse" => wanted.reversed = value == "true",
                _ => {}
            }
        }
        wanted
    }

    fn is_nothing(&self) -> bool {
        self.page.is_none() && self.columns.is_empty() && self.sort.is_none()
    }

    /// The page and its size, if pages are wanted.
    fn page(&self) -> Result<Option<(usize, usize)>, ApiError> {
        let Some(page) = &self.page else { return Ok(None) };
        let size = self.page_size.as_deref();
        let (number, length) =
            (page.parse().ok(), size.map_or(Some(PAGE_SIZE_DEFAULT), |size| size.parse().ok()));
        match (number, length) {
            (Some(number @ 1..), Some(length @ 1..=PAGE_SIZE_MAX)) => Ok(Some((number, length))),
            _ => Err(ApiError::Pagination {
                kind: "invalid_pagination_parameters",
                why: format!(
                    "Invalid pagination parameters: page number {page}, page size {}",
                    size.unwrap_or("undefined")
                ),
            }),
        }
    }

    fn apply(&self, mut items: Vec<Value>) -> Result<Value, ApiError> {
        let page = self.page()?;
        let total = items.len();
        if let (Some(_), Some(name)) = (page, &self.name) {
            // One that is none matches nothing, as in RabbitMQ.
            let pattern = self.use_regex.then(|| Pattern::new(name).ok());
            let is_it = |found: &str| match &pattern {
                Some(pattern) => pattern.as_ref().is_some_and(|pattern| pattern.matches(found.as_bytes())),
                None => found.contains(name.as_str()),
            };
            items.retain(|item| item.get("name").and_then(Value::as_str).is_some_and(is_it));
        }
        if let Some(key) = &self.sort {
            items.sort_by(|a, b| compare(at(a, key), at(b, key)));
            if self.reversed {
                items.reverse();
            }
        }
        let filtered = items.len();
        let (number, length) = page.unwrap_or((1, filtered.max(1)));
        let pages = filtered.div_ceil(length);
        if number > pages.max(1) {
            return Err(ApiError::Pagination {
                kind: "page_out_of_range",
                why: format!("Page out of range, page: {number} page size: {length}, len: {filtered}"),
            });
        }
        let begin = (number - 1) * length;
        let items = items.into_iter().skip(begin).take(length);
        let items: Vec<Value> = items.map(|item| self.chosen(item)).collect();
        if page.is_none() {
            return Ok(Value::Array(items));
        }
        Ok(json!({
            "filtered_count": filtered,
            "item_count": items.len(),
            "items": items,
            "page": number,
            "page_count": pages,
            "page_size": length,
            "total_count": total,
        }))
    }

    fn chosen(&self, item: Value) -> Value {
        if self.columns.is_empty() {
            return item;
        }
        let mut chosen = Map::new();
        for column in &self.columns {
            if let Some(value) = at(&item, column) {
                put(&mut chosen, column, value.clone());
            }
        }
        Value::Object(chosen)
    }
}

/// What is there by a path like `connection_details.name`.
fn at<'a>(item: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(item, |value, key| value.get(key))
}

/// Puts a value by such a path.
fn put(into: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => _ = into.insert(path.to_owned(), value),
        Some((first, rest)) => {
            let inner = into.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Numbers by size, texts by bytes; what is not there comes first.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (a, b) => a.map(Value::to_string).cmp(&b.map(Value::to_string)),
    }
}

/// Answers with the part of a list that is wanted.
pub(super) async fn pages(request: Request, next: Next) -> Result<Response, ApiError> {
    let wanted = match (request.method(), request.uri().query()) {
        (&Method::GET, Some(query)) => Wanted::of(query),
        _ => Wanted::default(),
    };
    let response = next.run(request).await;
    if wanted.is_nothing() || response.status() != StatusCode::OK {
        return Ok(response);
    }
    let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.map_err(|_| ApiError::Busy)?;
    let look_again = move || {
        let answer: Value = serde_json::from_slice(&body).map_err(|_| ApiError::Busy)?;
        match answer {
            Value::Array(items) => wanted.apply(items),
            // Of one thing there are columns alone.
            one => Ok(wanted.chosen(one)),
        }
    };
    // A long list would keep others waiting.
    let found = tokio::task::spawn_blocking(look_again).await.map_err(|_| ApiError::Busy)??;
    Ok(Json(found).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues() -> Vec<Value> {
        let queue = |(name, count): (&str, u64)| json!({"name": name, "n": {"m": count}, "vhost": "/"});
        [("b", 2), ("a", 10), ("ab", 1)].map(queue).to_vec()
    }

    fn names(answer: &Value) -> Vec<String> {
        let items = answer.get("items").unwrap_or(answer).as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }

    fn applied(query: &str) -> Value {
        Wanted::of(query).apply(queues()).unwrap()
    }

    #[test]
    fn pages_are_cut_filtered_and_counted() {
        let told = applied("page=1&page_size=2");
        assert_eq!(names(&told), ["b", "a"]);
        assert_eq!((&told["page_count"], &told["total_count"]), (&json!(2), &json!(3)));
        assert_eq!(names(&applied("page=2&page_size=2")), ["ab"]);
        assert_eq!(names(&applied("page=1&name=b")), ["b", "ab"]);
        let told = applied("page=1&name=%5Eb&use_regex=true");
        assert_eq!((names(&told), &told["filtered_count"]), (vec!["b".to_owned()], &json!(1)));
        assert_eq!(names(&applied("page=1&name=%5B&use_regex=true")), [""; 0]);
        assert_eq!(names(&applied("name=b")), ["b", "a", "ab"], "filters are for pages");
    }

    #[test]
    fn lists_are_sorted_and_columns_chosen() {
        assert_eq!(names(&applied("sort=name")), ["a", "ab", "b"]);
        assert_eq!(names(&applied("sort=n.m&sort_reverse=true")), ["a", "b", "ab"]);
        assert_eq!(applied("columns=n.m,none")[0], json!({"n": {"m": 2}}));
    }

    #[test]
    fn pages_that_make_no_sense_are_refused() {
        for query in ["page=0", "page=x", "page=1&page_size=501", "page=1&page_size=0", "page=2"] {
            assert!(Wanted::of(query).apply(queues()).is_err(), "{query}");
        }
        assert!(Wanted::of("page=1").apply(Vec::new()).is_ok(), "the first page of nothing");
    }
}
