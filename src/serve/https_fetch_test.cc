// Goal: pictures are fetched from where their address says, within limits, and from nowhere else. Method:
// this layer's own server with TLS as the other side, under a certificate made here; this machine's address
// is let in by the tests' own rule, or refused by the usual one.
#include "serve/https_fetch.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <chrono>

#include "base/field_error.h"
#include "base/temporary_folder_testing.h"
#include "serve/http_server.h"
#include "serve/socket_client_testing.h"

namespace fovea {
namespace {

// A key and a certificate for a name, signed by itself.
void make_certificate(const std::string& name, const std::filesystem::path& certificate,
                      const std::filesystem::path& key) {
  EVP_PKEY* pair = EVP_EC_gen("P-256");
  X509* x509 = X509_new();
  X509_set_version(x509, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
  X509_set_pubkey(x509, pair);
  X509_NAME* subject = X509_get_subject_name(x509);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1,
                             -1, 0);
  X509_set_issuer_name(x509, subject);
  X509V3_CTX context;
  X509V3_set_ctx(&context, x509, x509, nullptr, nullptr, 0);
  for (const auto& [id, value] : {std::pair<int, std::string>(NID_subject_alt_name, "DNS:" + name),
                                  {NID_basic_constraints, "critical,CA:TRUE"}}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
    X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(x509, pair, EVP_sha256());
  FILE* file = std::fopen(certificate.c_str(), "w");
  PEM_write_X509(file, x509);
  std::fclose(file);
  file = std::fopen(key.c_str(), "w");
  PEM_write_PrivateKey(file, pair, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  X509_free(x509);
  EVP_PKEY_free(pair);
}

class Pictures final : public HttpHandler {
 public:
  std::optional<HttpResponse> answer_early(const HttpHead& head) override {
    last = head;
    const std::string path = head.path();
    HttpResponse response;
    response.content_type = "image/png";
    response.body = "picture";
    if (path == "/never") return std::nullopt;
    if (path == "/moved") {
      response.status = 302;
      response.headers.emplace_back("Location", "https://localhost/a.png");
    }
    if (path == "/absent") response.status = 404;
    if (path == "/large") response.body = std::string(100000, 'x');
    return response;
  }
  void handle(HttpRequest, std::shared_ptr<ResponseWriter> writer) override { kept = std::move(writer); }
  HttpResponse refusal(int status, const std::string&) override {
    HttpResponse response;
    response.status = status;
    return response;
  }
  HttpHead last;
  std::shared_ptr<ResponseWriter> kept;
};

class HttpsFetch : public testing::Test {
 protected:
  void start(const std::string& name) {
    make_certificate(name, folder.path() / "cert.pem", folder.path() / "key.pem");
    HttpOptions options;
    options.port = 0;
    options.certificate = (folder.path() / "cert.pem").string();
    options.key = (folder.path() / "key.pem").string();
    server = std::make_unique<HttpServer>(options, pictures);
    server->start(1);
    rules.certificates = options.certificate;
    rules.admits = [](std::span<const uint8_t>) { return true; };
  }
  // What was fetched, or why not.
  std::string fetch(const std::string& target, const std::string& host = "localhost") {
    try {
      return fetch_https({host, server->port(), target}, rules, "field");
    } catch (const FieldError& error) {
      EXPECT_EQ(error.field(), "field");
      return error.message();
    }
  }

  void expect_failure(const std::string& words, const std::string& target,
                      const std::string& host = "localhost") {
    const std::string found = fetch(target, host);
    EXPECT_NE(found.find(words), std::string::npos) << host << target << ": " << found.substr(0, 200);
  }

  TemporaryFolder folder;
  Pictures pictures;
  std::unique_ptr<HttpServer> server;
  FetchRules rules;
};

TEST_F(HttpsFetch, GetsWhatIsThereAndFollowsNothing) {
  start("localhost");
  EXPECT_EQ(fetch("/a.png?x=1"), "picture");
  EXPECT_EQ(pictures.last.target, "/a.png?x=1");
  EXPECT_EQ(*pictures.last.header("Host"), "localhost:" + std::to_string(server->port()));
  EXPECT_EQ(pictures.last.header("Authorization"), nullptr);
  expect_failure("leads to another address", "/moved");
  expect_failure("is not there", "/absent");
  rules.bytes = 1000;
  expect_failure("more than 1000 bytes", "/large");
  rules.seconds = 0.3;
  const auto begin = std::chrono::steady_clock::now();
  expect_failure("within 0.3 seconds", "/never");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

TEST_F(HttpsFetch, RefusesTheWrongCertificateAndTheWrongAddress) {
  start("other.example");
  expect_failure("no certificate that is valid", "/a.png");
  rules.certificates.clear();  // the system's know nothing of it
  expect_failure("no certificate that is valid", "/a.png");
  rules.admits = nullptr;  // the usual rule
  pictures.last = {};
  for (const char* host : {"localhost", "127.0.0.1", "127.1", "0.0.0.0", "169.254.169.254", "10.0.0.1"}) {
    expect_failure("not on the open internet", "/a.png", host);
  }
  expect_failure("not known", "/a.png", "no.such.host.invalid");
  EXPECT_TRUE(pictures.last.target.empty());  // nobody came
}

TEST_F(HttpsFetch, AServerOfTlsEndsWhatIsNoTls) {
  start("localhost");
  SocketClient plain(server->port()), garbage(server->port()), half(server->port());
  plain.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  garbage.send(std::string("\x16\x03\x01\xff\xff\x01\x00", 7) + std::string(5000, '\xfe'));
  half.send(std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9));
  half.half_close();
  EXPECT_TRUE(plain.ends() && garbage.ends() && half.ends());
  EXPECT_EQ(fetch("/a.png"), "picture");
}

}  // namespace
}  // namespace fovea
