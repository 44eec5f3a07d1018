//! What every place does, whatever its storage: one list of assertions for local files, memory and, in `tests/services`, S3.

use super::{Error, Place};

/// Asserts it of an empty place.
pub(crate) fn suite(place: &Place) {
    assert!(matches!(place.get("a/b"), Err(Error::NotFound { .. })));
    assert_eq!(place.size("a/b").unwrap(), None);
    place.create("a/b", &b"one"[..]).unwrap();
    assert!(matches!(place.create("a/b", &b"two"[..]), Err(Error::Conflict { .. })));
    assert_eq!(place.get("a/b").unwrap(), &b"one"[..]);
    place.put("a/b", &b"three"[..]).unwrap();
    assert_eq!(place.size("a/b").unwrap(), Some(5));
    assert_eq!(place.get_range("a/b", 1..4).unwrap(), &b"hre"[..]);
    assert!(place.get_range("a/b", 7..9).is_err());
    assert!(matches!(place.get_range("a/b", 3..9), Err(Error::Corrupt { .. })));
    place.put("empty", &b""[..]).unwrap();
    assert_eq!(place.get("empty").unwrap().len(), 0);
    assert_eq!(place.folders().unwrap(), ["a"]);
    assert_eq!(place.join("a").unwrap().get("b").unwrap(), &b"three"[..]);
    assert_eq!(place.join("a/../a").unwrap().get("b").unwrap(), &b"three"[..]);
    place.delete("a/b").unwrap();
    place.delete("a/b").unwrap();
    assert_eq!(place.size("a/b").unwrap(), None);
    place.put("c/d/e", &b"x"[..]).unwrap();
    assert_eq!(place.list().unwrap(), [("c/d/e".to_owned(), 1), ("empty".to_owned(), 0)]);
    assert_eq!(place.join("c").unwrap().list().unwrap(), [("d/e".to_owned(), 1)]);
    assert_eq!(place.join("none").unwrap().list().unwrap(), []);
    let large: Vec<u8> = (0..40 << 20).map(|i: u32| (i / 7) as u8).collect();
    place.put("large", large.clone()).unwrap();
    assert_eq!(place.get("large").unwrap(), large);
    assert_eq!(place.get_range("large", 16_777_210..16_777_220).unwrap(), &large[16_777_210..16_777_220]);
    place.delete("large").unwrap();
    place.put("odd names/ü %20#1+&=.parquet", &b"x"[..]).unwrap();
    assert_eq!(place.get("odd names/ü %20#1+&=.parquet").unwrap(), &b"x"[..]);
    place.join("odd names").unwrap().clear().unwrap();
    place.join("c").unwrap().clear().unwrap();
    assert_eq!(place.size("c/d/e").unwrap(), None);
    assert_eq!(place.size("empty").unwrap(), Some(0));
}
