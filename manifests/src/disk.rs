//! How much room a disk has, so that too little is told before the work and not after it.

use std::io;
use std::path::Path;

/// Bytes that an ordinary user may still write on the file system on which `path` lies; the path need not exist yet.
///
/// # Errors
/// When the system does not say.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(there)?;
    if found.f_blocks == 0 {
        // A file system that does not count its blocks: what can be written there shows when it is written.
        return Ok(u64::MAX);
    }
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn agrees_with_df() {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(folder.path()).output().unwrap();
        let expected: f64 = String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
        let found = free_bytes(&folder.path().join("not/made/yet")).unwrap() as f64;
        // Others write in between.
        assert!((found - expected).abs() < 0.2 * expected, "{found} is not about {expected}");
    }
}
