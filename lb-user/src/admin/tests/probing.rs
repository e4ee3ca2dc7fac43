//! Whatever somebody sends to the sockets: answered or cut off, changing nothing, and others are still served.

use super::*;

/// Sends no more after the request.
async fn all_of(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_no_request_changes_nothing() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let mut agent = start(&path).await.unwrap();
    let long = "a".repeat(LIMITS.head_bytes * 2);
    let many = "x: y\r\n".repeat(500);
    let cases: Vec<Vec<u8>> = vec![
        b"\r\n\r\n".to_vec(),
        vec![0xff; 64 * 1024],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"POST /v1/reload\r\n\r\n".to_vec(),
        b"POST /v1/reload HTTP/1.1".to_vec(),
        b"POST /v1/reload HTTP/1.1\r\nhost: x".to_vec(),
        b"POST /v1/reload\xff HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"POST /v1/reload HTTP/1.1\r\nx\x00y: z\r\n\r\n".to_vec(),
        b"POST /v1/reload HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx".to_vec(),
        b"POST /v1/reload HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /v1/reload HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_vec(),
        format!("POST /v1/backend/drain?name={long} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes(),
        format!("POST /v1/reload HTTP/1.1\r\n{many}\r\n").into_bytes(),
    ];
    for socket in [path.clone(), read_socket(&path)] {
        for case in &cases {
            let answer = all_of(&socket, case).await;
            let shown = String::from_utf8_lossy(&case[..case.len().min(80)]);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
        }
        assert_eq!(fetch_status(&socket).await.unwrap(), example());
    }
    assert!(agent.reloads.try_recv().is_err());
}

#[tokio::test]
async fn changes_are_asked_for_in_words_that_mean_something() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let mut agent = start(&path).await.unwrap();
    let query = "a=%ff&".repeat(4000);
    for (request, code) in [
        ("POST /v1/../v1/reload", 404),
        ("POST //v1/reload", 404),
        ("POST /v1/reload/", 404),
        ("POST /v1/%72eload", 404),
        ("POST /v2/reload", 404),
        ("POST /reload", 404),
        ("POST /do/backend", 404),
        ("POST /v1/backend/../reload", 404),
        ("POST /v1/backend/drain/x?name=a", 404),
        ("POST /v1/backend/%ff%fe?name=a", 400),
        ("POST /v1/backend/..%2freload?name=a", 400),
        ("POST /v1/backend/drain", 400),
        ("POST /v1/backend/drain?name=a&what=weight", 400),
        (&format!("POST /v1/backend/drain?{query}"), 400),
        (&format!("POST /v1/vrrp/step-down?{query}"), 400),
        ("POST /v1/vrrp/step-down?hold=18446744073709551616", 400),
        ("POST /v1/status", 405),
        ("GET /v1/backend/drain?name=a", 405),
        ("PUT /v1/reload", 405),
        ("OPTIONS /v1/reload", 405),
        ("post /v1/reload", 405),
        ("GET /v1/vrrp/step-down", 405),
        ("OPTIONS *", 404),
    ] {
        let answer = raw(&path, format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        let shown = &request[..request.len().min(80)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{shown} {code}: {answer}");
        assert!(answer.len() < 100_000, "{shown}");
    }
    // What follows a request on the same connection is nobody's.
    let two = b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\nPOST /v1/reload HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = raw(&path, two).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(agent.reloads.try_recv().is_err());
}
