//! Which files are read, in which order: files as they are named, folders and patterns in natural order of their names.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use manifests::place::Place;
use raw::source::Input;

use crate::error::Error;

/// What makes a name a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// The inputs that `named` stand for. Without any, standard input.
pub(super) fn expand(named: &[PathBuf]) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for path in named {
        let files = |files: Vec<PathBuf>| files.into_iter().map(Input::Path);
        match (Input::named(path)?, path.to_str()) {
            (Input::Object { place, key }, _) => inputs.extend(in_store(place, key)?),
            _ if path.is_dir() => inputs.extend(files(in_folder(path)?)),
            (_, Some(pattern)) if !path.exists() && pattern.contains(WILDCARDS) => {
                inputs.extend(files(matching(pattern)?));
            }
            _ => inputs.push(Input::Path(path.clone())),
        }
    }
    if inputs.is_empty() {
        return Ok(vec![Input::Standard]);
    }
    Ok(inputs)
}

/// The objects that `key` at `place` stands for: the one of this name, those below it as a folder, or those that it matches as a
/// pattern.
fn in_store(mut place: Place, key: String) -> Result<Vec<Input>, Error> {
    if !key.is_empty() && place.size(&key)?.is_some() {
        return Ok(vec![Input::Object { place, key }]);
    }
    let is_data = |key: &str| !key.contains('/') && !key.starts_with(['.', '_']);
    let listed = |place: &Place| Ok::<_, Error>(place.list()?.into_iter().map(|(key, _)| key));
    let (shown, keys): (String, Vec<String>) = if key.contains(WILDCARDS) {
        let shown = place.show(&key);
        let refused = |problem: String| Error::NoFiles { place: shown.clone(), problem };
        let pattern = glob::Pattern::new(&key).map_err(|e| refused(format!("not a pattern: {}", e.msg)))?;
        (shown, listed(&place)?.filter(|key| !key.contains('/') && pattern.matches(key)).collect())
    } else {
        place = if key.is_empty() { place } else { place.join(&key)? };
        (place.to_string(), listed(&place)?.filter(|key| is_data(key)).collect())
    };
    match sorted(keys.into_iter().map(PathBuf::from).collect()) {
        Some(keys) => {
            let key = |key: &PathBuf| key.to_string_lossy().into_owned();
            Ok(keys.iter().map(|path| Input::Object { place: place.clone(), key: key(path) }).collect())
        }
        None if key.contains(WILDCARDS) => {
            Err(Error::NoFiles { place: shown, problem: "no object matches".to_owned() })
        }
        None if key.is_empty() => Err(Error::NoFiles { place: shown, problem: "holds no objects".to_owned() }),
        None => Err(raw::Error::InputNotFound { place: shown }.into()),
    }
}

/// The files in `folder`, without hidden ones and markers such as `_SUCCESS`.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let place = || folder.display().to_string();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| raw::Error::Unreadable { place: place(), source })? {
        let path = entry.map_err(|source| raw::Error::Unreadable { place: place(), source })?.path();
        let is_data = path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(['.', '_']));
        if is_data && path.is_file() {
            files.push(path);
        }
    }
    sorted(files).ok_or_else(|| Error::NoFiles { place: place(), problem: "the folder holds no files".to_owned() })
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, Error> {
    let refused = |problem: String| Error::NoFiles { place: pattern.to_owned(), problem };
    let paths = glob::glob(pattern).map_err(|e| refused(format!("not a pattern: {}", e.msg)))?;
    let mut files = Vec::new();
    for path in paths {
        let path =
            path.map_err(|e| raw::Error::Unreadable { place: e.path().display().to_string(), source: e.into() })?;
        if path.is_file() {
            files.push(path);
        }
    }
    sorted(files).ok_or_else(|| refused("no file matches".to_owned()))
}

fn sorted(mut files: Vec<PathBuf>) -> Option<Vec<PathBuf>> {
    files.sort_by(|a, b| natural(a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes()));
    (!files.is_empty()).then_some(files)
}

/// By byte, but runs of digits by their value: `day_2` comes before `day_10`.
fn natural(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let whole = (a, b);
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
        let (run_a, run_b) = (digits(a), digits(b));
        let order = if run_a > 0 && run_b > 0 {
            let value = |text: &[u8], run: usize| {
                let zeros = text[..run].iter().take_while(|&&b| b == b'0').count();
                (run - zeros, text[zeros..run].to_vec())
            };
            let order = value(a, run_a).cmp(&value(b, run_b));
            (a, b) = (&a[run_a..], &b[run_b..]);
            order
        } else {
            match (a.split_first(), b.split_first()) {
                (Some((x, rest_a)), Some((y, rest_b))) => {
                    (a, b) = (rest_a, rest_b);
                    x.cmp(y)
                }
                // Names that differ in leading zeros only are told apart by their bytes.
                (None, None) => return whole.0.cmp(whole.1),
                (x, y) => x.is_some().cmp(&y.is_some()),
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_in_names_go_by_value() {
        let mut names = [
            "day_10",
            "day_2",
            "day_1",
            "day_02",
            "day",
            "part-00010-a",
            "part-00009-b",
            "x99999999999999999999",
            "x1",
        ];
        names.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()));
        let expected = [
            "day",
            "day_1",
            "day_02",
            "day_2",
            "day_10",
            "part-00009-b",
            "part-00010-a",
            "x1",
            "x99999999999999999999",
        ];
        assert_eq!(names, expected);
    }

    proptest! {
        #[test]
        fn the_order_is_total(names in proptest::collection::vec("[a0-2]{0,5}", 3)) {
            let [a, b, c] = [0, 1, 2].map(|i| names[i].as_bytes());
            prop_assert_eq!(natural(a, b), natural(b, a).reverse());
            prop_assert_eq!(natural(a, b) == Ordering::Equal, a == b);
            if natural(a, b).is_le() && natural(b, c).is_le() {
                prop_assert!(natural(a, c).is_le());
            }
        }
    }

    #[test]
    fn objects_are_found_as_files_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = Place::parse(folder.path().to_str().unwrap()).unwrap();
        for key in ["logs/day_10", "logs/day_2", "logs/_SUCCESS", "logs/.hidden", "logs/day_3/x", "other"] {
            root.put(key, &b"x"[..]).unwrap();
        }
        let logs = root.join("logs").unwrap();
        let names = |place: &Place, key: &str| -> Result<Vec<String>, String> {
            let inputs = in_store(place.clone(), key.to_owned()).map_err(|e| e.to_string())?;
            let prefix = format!("{root}/");
            Ok(inputs.iter().map(|input| input.shown().strip_prefix(&prefix).unwrap().to_owned()).collect())
        };
        assert_eq!(names(&logs, "").unwrap(), ["logs/day_2", "logs/day_10"]);
        assert_eq!(names(&root, "logs").unwrap(), ["logs/day_2", "logs/day_10"]);
        assert_eq!(names(&logs, "day_*").unwrap(), ["logs/day_2", "logs/day_10"]);
        assert_eq!(names(&logs, "day_2").unwrap(), ["logs/day_2"]);
        assert!(names(&logs, "week_*").unwrap_err().ends_with("logs/week_*: no object matches"));
        assert!(names(&logs, "absent").unwrap_err().ends_with("logs/absent: not found"));
    }

    #[test]
    fn folders_and_patterns_become_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["day_10", "day_2", ".hidden", "_SUCCESS"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("day_3")).unwrap();
        let names = |path: PathBuf| -> Result<Vec<String>, String> {
            let inputs = expand(&[path]).map_err(|e| e.to_string())?;
            let name = |input: &Input| match input {
                Input::Path(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
                other => other.shown(),
            };
            Ok(inputs.iter().map(name).collect())
        };
        assert_eq!(names(folder.path().to_owned()).unwrap(), ["day_2", "day_10"]);
        assert_eq!(names(folder.path().join("day_*")).unwrap(), ["day_2", "day_10"]);
        assert_eq!(names(folder.path().join("day_2")).unwrap(), ["day_2"]);
        assert_eq!(names(folder.path().join("absent")).unwrap(), ["absent"], "told when it is opened");
        assert!(names(folder.path().join("week_*")).unwrap_err().ends_with("week_*: no file matches"));
        assert!(names(folder.path().join("day_3")).unwrap_err().ends_with("day_3: the folder holds no files"));
        assert_eq!(expand(&[]).unwrap(), [Input::Standard]);
    }
}
