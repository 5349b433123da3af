//! A browser that a test drives, through ChromeDriver (<https://www.w3.org/TR/webdriver2/>).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{command, start, wait};

/// How long a page may take to become what a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A real Chromium with one page, in the network namespace of the thread that starts it. It ends when it is dropped. Needs
/// `Program("chromium")` and `Program("chromedriver")`.
///
/// All methods panic when the browser does not do as it is told.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Where the browser keeps its files.
    _directory: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| panic!("no browser: {error}"))
    }

    fn try_start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut program = command("chromedriver");
        program
            .arg("--port=0")
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped());
        let mut driver = start(program)?;
        let output = driver.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let lines = BufReader::new(output).lines();
        let mut ports = lines.map_while(Result::ok).filter_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser = Self {
            driver,
            port: ports.next().ok_or(io::ErrorKind::UnexpectedEof)?,
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
        let id = session["sessionId"].as_str();
        id.ok_or(io::ErrorKind::InvalidData)?
            .clone_into(&mut browser.session);
        Ok(browser)
    }

    /// Goes to an address, and waits until the page is loaded.
    pub fn open(&self, url: &str) {
        self.command("POST", &self.path("/url"), &json!({ "url": url }));
    }

    /// The value of an expression in the page; of a promise, what it becomes.
    pub fn eval(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"))
    }

    /// Runs statements in the page, whatever its policy says of scripts, and returns what they return.
    pub fn run(&self, statements: &str) -> Value {
        let script = json!({ "script": statements, "args": [] });
        self.command("POST", &self.path("/execute/sync"), &script)
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn wait(&self, expression: &str) {
        let is_met = wait::within(PATIENCE, || (self.eval(expression) == true).then_some(()));
        let page = || self.eval("document.body.innerText");
        assert!(is_met.is_some(), "never true: {expression}\n{}", page());
    }

    /// Clicks the first element of a selector, as a mouse does.
    pub fn click(&self, selector: &str) {
        let path = self.path(&format!("/element/{}/click", self.element(selector)));
        self.command("POST", &path, &json!({}));
    }

    /// Types into the first element of a selector, as a keyboard does.
    pub fn write(&self, selector: &str, text: &str) {
        let path = self.path(&format!("/element/{}/value", self.element(selector)));
        self.command("POST", &path, &json!({ "text": text }));
    }

    /// Presses and releases a key, wherever the focus is: a letter, or a code of
    /// <https://www.w3.org/TR/webdriver2/#keyboard-actions> such as `\u{e004}` for the tabulator.
    pub fn press(&self, key: char) {
        let stroke = [
            json!({ "type": "keyDown", "value": key }),
            json!({ "type": "keyUp", "value": key }),
        ];
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": stroke });
        let actions = json!({ "actions": [keyboard] });
        self.command("POST", &self.path("/actions"), &actions);
    }

    /// Gives the window another size.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height });
        self.command("POST", &self.path("/window/rect"), &size);
    }

    /// Shows pages as a phone would, that is so many pixels wide, until the next call.
    pub fn emulate_phone(&self, width: Option<u32>) {
        match width {
            Some(width) => self.devtools(
                "Emulation.setDeviceMetricsOverride",
                &json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": true }),
            ),
            None => self.devtools("Emulation.clearDeviceMetricsOverride", &json!({})),
        };
    }

    /// Makes the system's colour scheme `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let scheme = json!({ "name": "prefers-color-scheme", "value": scheme });
        let features = json!({ "features": [scheme] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Turns scripts of pages that are loaded from now on off, or on again.
    pub fn without_scripts(&self, is_without: bool) {
        let value = json!({ "value": is_without });
        self.devtools("Emulation.setScriptExecutionDisabled", &value);
    }

    /// What axe-core (`script` is its file) finds to be wrong with the page for those who use it with a keyboard or a screen
    /// reader: each rule with its impact and the elements that break it.
    ///
    /// # Panics
    /// If the file cannot be read.
    pub fn violations(&self, script: &Path) -> Vec<String> {
        let axe = std::fs::read_to_string(script)
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        self.run(&axe);
        let found = self.eval("axe.run(document, { resultTypes: ['violations'] })");
        let violations = found["violations"].as_array().into_iter().flatten();
        let one = |violation: &Value| {
            let nodes = violation["nodes"].as_array().into_iter().flatten();
            let nodes: Vec<String> = nodes
                .map(|node| format!("{} {}", node["target"], node["failureSummary"]))
                .collect();
            format!(
                "{} ({}): {}",
                violation["id"],
                violation["impact"],
                nodes.join("; ")
            )
        };
        violations.map(one).collect()
    }

    /// The picture of the window, as PNG in base64.
    pub fn picture(&self) -> String {
        let picture = self.command("GET", &self.path("/screenshot"), &Value::Null);
        picture.as_str().unwrap_or_default().to_owned()
    }

    /// A command of the DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).
    fn devtools(&self, name: &str, parameters: &Value) -> Value {
        let command = json!({ "cmd": name, "params": parameters });
        self.command("POST", &self.path("/goog/cdp/execute"), &command)
    }

    fn element(&self, selector: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.command("POST", &self.path("/element"), &wanted);
        let mut ids = found.as_object().into_iter().flatten();
        let id = ids.next().and_then(|(_, id)| id.as_str());
        id.unwrap_or_else(|| panic!("no element {selector}"))
            .to_owned()
    }

    fn path(&self, rest: &str) -> String {
        format!("/session/{}{rest}", self.session)
    }

    /// The value of the answer to a command.
    #[track_caller]
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let answered = self.ask(method, path, body);
        let (status, mut answer) = answered.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["value"].take()
    }

    /// ChromeDriver speaks HTTP/1.1 only, and always tells the length of its answers.
    fn ask(&self, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(wait::PATIENCE))?;
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
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
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
