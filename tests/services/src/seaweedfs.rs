//! SeaweedFS as a private S3 server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::MiniStack;
use crate::process::{Server, find, free_ports, start};

/// Ready after a second on an idle machine; a busy one gets a minute.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A running S3 server with one bucket and three identities: those named here and [`MiniStack::ROLE`], which may read, write and
/// list in the bucket.
#[derive(Debug)]
pub struct SeaweedFs {
    _server: Server,
    port: u16,
    /// Of its file system, where objects are files and no signature is asked for.
    filer: u16,
}

impl SeaweedFs {
    /// The key of the identity that may do everything.
    pub const ADMIN: (&str, &str) = ("AKIDTEST", "geheim-des-tests");
    /// The key of the identity that may only read and list.
    pub const READER: (&str, &str) = ("AKIDREADER", "geheim-des-lesers");
    const BUCKET: &str = "data";

    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, ends, or is not ready in time; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        start("the S3 server", Self::attempt)
    }

    fn attempt() -> Result<Self, String> {
        let weed = find("weed", "GRISTMILL_WEED", "seaweedfs-4.48");
        let folder = tempfile::Builder::new().prefix("seaweedfs-").tempdir().map_err(|e| e.to_string())?.keep();
        let (admin, reader, role, bucket) = (Self::ADMIN, Self::READER, MiniStack::ROLE, Self::BUCKET);
        let identities = format!(
            r#"{{"identities": [
            {{"name": "admin", "credentials": [{{"accessKey": "{}", "secretKey": "{}"}}],
              "actions": ["Admin", "Read", "Write", "List", "Tagging"]}},
            {{"name": "reader", "credentials": [{{"accessKey": "{}", "secretKey": "{}"}}],
              "actions": ["Read:{bucket}", "List:{bucket}"]}},
            {{"name": "role", "credentials": [{{"accessKey": "{}", "secretKey": "{}"}}],
              "actions": ["Read:{bucket}", "Write:{bucket}", "List:{bucket}"]}}]}}"#,
            admin.0, admin.1, reader.0, reader.1, role.0, role.1
        );
        std::fs::write(folder.join("s3.json"), identities).map_err(|e| e.to_string())?;
        std::fs::create_dir(folder.join("data")).map_err(|e| e.to_string())?;
        let ports = free_ports::<10>().map_err(|e| e.to_string())?;
        let flags = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
            "admin.port",
            "admin.port.grpc",
        ];
        let mut arguments =
            ["-logtostderr=true", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"].map(str::to_owned).to_vec();
        arguments.extend(flags.iter().zip(ports).map(|(flag, port)| format!("-{flag}={port}")));
        let in_folder = |flag: &str, name: &str| format!("-{flag}={}", folder.join(name).display());
        arguments.extend([
            in_folder("dir", "data"),
            in_folder("s3.config", "s3.json"),
            in_folder("filer.localSocket", "filer.sock"),
            in_folder("s3.localSocket", "s3.sock"),
            format!("-bucket={bucket}"),
        ]);
        let off = ["s3.port.iceberg=0", "s3.port.lance=0", "s3.iam=false", "admin.ui=false", "webdav=false"];
        arguments.extend(off.map(|flag| format!("-{flag}")));
        let mut server = Server::start(&weed, &arguments, folder).map_err(|e| e.to_string())?;
        let (port, filer) = (ports[6], ports[4]);
        // It answers, and the bucket is there, which is made a little later and needs no signature to be seen as a folder.
        let bucket = format!("/buckets/{bucket}/?limit=1");
        server.wait(READY_LIMIT, Duration::from_millis(20), |_| {
            status(port, "/healthz") == Some(200) && status(filer, &bucket) == Some(200)
        })?;
        Ok(Self { _server: server, port, filer })
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bucket, which is empty.
    #[must_use]
    pub fn bucket(&self) -> &'static str {
        Self::BUCKET
    }

    /// The text of an object.
    ///
    /// # Panics
    /// When there is none, or it is no text.
    #[must_use]
    pub fn object(&self, key: &str) -> String {
        self.get(key)[1].clone()
    }

    /// What an object was said to be when it was written.
    ///
    /// # Panics
    /// When there is none, or it is no text.
    #[must_use]
    pub fn content_type(&self, key: &str) -> Option<String> {
        let [head, _] = self.get(key);
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, value)| value.to_owned()).next()
    }

    /// Head and body of the answer.
    fn get(&self, key: &str) -> [String; 2] {
        let answer = request(self.filer, &format!("/buckets/{}/{key}", Self::BUCKET), u64::MAX).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.0 200 ") || head.starts_with("HTTP/1.1 200 "), "{key}: {head}");
        [head, body].map(str::to_owned)
    }

    /// The port for S3 on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Variables for a child process that is to use the server as [`SeaweedFs::ADMIN`].
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        Self::env_of(&self.url(), Self::ADMIN)
    }

    /// Variables for a child process that is to use `url`, a proxy before a server, with `key`.
    #[must_use]
    pub fn env_of(url: &str, key: (&str, &str)) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_S3", url.to_owned()),
            ("AWS_ACCESS_KEY_ID", key.0.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", key.1.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "no-such-file".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "no-such-file".to_owned()),
        ]
    }
}

/// The status of a request without a signature.
fn status(port: u16, path: &str) -> Option<u16> {
    request(port, path, 64)?.split(' ').nth(1)?.parse().ok()
}

/// The first bytes of the answer to a request without a signature, which comes in one piece.
fn request(port: u16, path: &str, most: u64) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(most).read_to_string(&mut answer).ok()?;
    Some(answer)
}
