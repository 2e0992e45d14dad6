package sdk

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// A Fireside process of a test's own; the Node twin of this file is server.mjs, whose namespaces it shares.
const (
	tokenSecret = "a secret of the tests, thirty-two bytes or more"
	apiKey      = "an-API-key-of-the-tests-and-of-nobody-else"
)

type server struct {
	dir            string
	port, internal int
	process        *exec.Cmd
}

// newServer starts a server and waits until it says that it is ready.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), port: freePort(t), internal: freePort(t)}
	support, err := os.ReadFile("../../support/server.mjs")
	must(t, err)
	namespaces := regexp.MustCompile("(?s)const NAMESPACES = `(.*?)`").FindSubmatch(support)[1]
	config := fmt.Sprintf(`
[server]
listen = "127.0.0.1:%d"
internal_listen = "127.0.0.1:%d"
[data]
dir = %q
[token]
hmac_secret_file = %q
[[api.key]]
id = "backend"
secret_file = %q
%s`, s.port, s.internal, s.file("data"), s.file("token"), s.file("api"), namespaces)
	for name, text := range map[string]string{"token": tokenSecret, "api": apiKey, "fireside.toml": config} {
		must(t, os.WriteFile(s.file(name), []byte(text), 0o600))
	}
	s.run(t)
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

func (s *server) url() string {
	return fmt.Sprintf("ws://127.0.0.1:%d/connection/websocket", s.port)
}

// run starts the process (again).
func (s *server) run(t *testing.T) {
	t.Helper()
	binary := os.Getenv("FIRESIDE_BIN")
	if binary == "" {
		binary = "../../../target/ci/fireside"
	}
	binary, err := filepath.Abs(binary)
	must(t, err)
	output, err := os.OpenFile(s.file("output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer output.Close()
	s.process = exec.Command(binary, "serve", "--config", s.file("fireside.toml"))
	s.process.Dir, s.process.Stdout, s.process.Stderr = s.dir, output, output
	must(t, s.process.Start())
	until(t, "the server to be ready", func() bool {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", s.internal))
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// kill is kill -9, and the corpse is awaited.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// say publishes {"n": from} to {"n": to} as a backend does.
func (s *server) say(t *testing.T, channel string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		body, err := json.Marshal(map[string]any{"channel": channel, "data": map[string]int{"n": n}})
		must(t, err)
		request, err := http.NewRequest("POST", fmt.Sprintf("http://127.0.0.1:%d/api/publish", s.port), bytes.NewReader(body))
		must(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-API-Key", apiKey)
		answer, err := http.DefaultClient.Do(request)
		must(t, err)
		var said struct{ Result *struct{ Offset uint64 } }
		must(t, json.NewDecoder(answer.Body).Decode(&said))
		answer.Body.Close()
		if said.Result == nil {
			t.Fatalf("publish %d was refused", n)
		}
	}
}

func token(user string, ttl time.Duration, secret string) string {
	part := func(value any) string {
		text, _ := json.Marshal(value)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	body := part(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." +
		part(map[string]any{"sub": user, "exp": time.Now().Add(ttl).Unix(), "info": map[string]string{"name": user}})
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return body + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// until waits for a condition, and fails naming it if it never comes.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func freePort(t *testing.T) int {
	t.Helper()
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer probe.Close()
	return probe.Addr().(*net.TCPAddr).Port
}
