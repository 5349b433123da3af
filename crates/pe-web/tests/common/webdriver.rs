//! A browser that a test drives, through ChromeDriver.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser with one page. It ends when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Where the browser keeps its files.
    _directory: TempDir,
}

impl Browser {
    /// Starts one. Needs `Program("chromedriver")` and `Program("chromium")`.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = pe_testkit::command("chromedriver");
        command
            .arg("--port=0")
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped());
        let mut driver = pe_testkit::start(command).unwrap();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let mut ports = lines.map_while(Result::ok).filter_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser = Self {
            driver,
            port: ports.next().unwrap(),
            session: String::new(),
            _directory: directory,
        };
        let flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-extensions",
            "--disable-background-networking",
            "--no-proxy-server",
            "--window-size=1280,900",
        ];
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": flags } });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let session = browser.command("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.command("POST", &self.path("/url"), &json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub(crate) fn eval(&self, expression: &str) -> Value {
        let script = json!({ "script": format!("return {expression}"), "args": [] });
        self.command("POST", &self.path("/execute/sync"), &script)
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub(crate) fn wait(&self, expression: &str) {
        let is_met = pe_testkit::wait::within(Duration::from_secs(20), || {
            (self.eval(expression) == true).then_some(())
        });
        let page = || self.eval("document.body.innerText");
        assert!(is_met.is_some(), "never true: {expression}\n{}", page());
    }

    /// Clicks the first element of a selector, as a mouse does.
    pub(crate) fn click(&self, selector: &str) {
        let path = self.path(&format!("/element/{}/click", self.element(selector)));
        self.command("POST", &path, &json!({}));
    }

    /// Types into the first element of a selector, as a keyboard does.
    pub(crate) fn write(&self, selector: &str, text: &str) {
        let path = self.path(&format!("/element/{}/value", self.element(selector)));
        self.command("POST", &path, &json!({ "text": text }));
    }

    /// Gives the window another size.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height });
        self.command("POST", &self.path("/window/rect"), &size);
    }

    fn element(&self, selector: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.command("POST", &self.path("/element"), &wanted);
        let mut ids = found.as_object().unwrap().values();
        ids.next().unwrap().as_str().unwrap().to_owned()
    }

    fn path(&self, rest: &str) -> String {
        format!("/session/{}{rest}", self.session)
    }

    /// The value of the answer to a command.
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, mut answer) = self.ask(method, path, body).unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["value"].take()
    }

    /// ChromeDriver speaks HTTP/1.1 only, and always tells the length of its answers.
    fn ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let body = match method {
            "POST" => body.to_string(),
            _ => String::new(),
        };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line)?;
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok((status.unwrap_or(0), serde_json::from_slice(&answer)?))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session.
        if !self.session.is_empty() {
            let _ = self.ask("DELETE", &self.path(""), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
