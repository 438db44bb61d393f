// SPDX-License-Identifier: Apache-2.0
// What all streams of a deployment share: keys that are derived from its secrets, and the one way
// in which TLS is spoken: 1.3, an ephemeral exchange besides the key, one cipher, no tickets, no
// early data.
#include "transport/secure/tls.hpp"

#include "messages/values/error_format.hpp"
#include "transport/secure/tls_stream.hpp"

#include <algorithm>
#include <array>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

namespace kvferry {

namespace {

/// The cipher's hash is the one that the key is used with, so there is one cipher.
constexpr const char* ciphers = "TLS_AES_128_GCM_SHA256";
constexpr unsigned char cipher_number[] = {0x13, 0x01};

using kdf_ptr = std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)>;
using kdf_context_ptr = std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)>;

/// HKDF with SHA-256: `purpose` keeps what is shown of a secret apart from what it protects.
bool derive(const std::string& secret, std::string purpose, unsigned char* out, std::size_t bytes) {
    const kdf_ptr kdf{EVP_KDF_fetch(nullptr, "HKDF", nullptr), &EVP_KDF_free};
    if (!kdf)
        return false;
    const kdf_context_ptr context{EVP_KDF_CTX_new(kdf.get()), &EVP_KDF_CTX_free};
    std::string digest = "SHA256";
    std::string key = secret;
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key.data(), key.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, purpose.data(), purpose.size()),
        OSSL_PARAM_construct_end()};
    return context && EVP_KDF_derive(context.get(), out, bytes, parameters) == 1;
}

struct shared_key {
    std::array<unsigned char, 32> key{};
    std::string name;
};

caf::expected<shared_key> make_key(const std::string& secret) {
    shared_key result;
    std::array<unsigned char, 6> name{};
    if (!derive(secret, "kvferry tls 1.3 psk", result.key.data(), result.key.size())
        || !derive(secret, "kvferry name of a secret", name.data(), name.size()))
        return make_error(errc::unsupported, "OpenSSL has no HKDF with SHA-256: {}",
                          tls_error_text());
    for (auto each : name)
        result.name += fmt::format("{:02x}", each);
    return result;
}

class shared_tls final : public tls, public std::enable_shared_from_this<shared_tls> {
public:
    caf::error make_context(const std::vector<std::string>& secrets) {
        for (const auto& secret : secrets) {
            auto key = make_key(secret);
            if (!key)
                return std::move(key.error());
            names_.push_back(key->name);
            keys_.push_back(std::move(*key));
        }
        context_.reset(SSL_CTX_new(TLS_method()));
        auto* context = context_.get();
        if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1
            || SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1
            || SSL_CTX_set_ciphersuites(context, ciphers) != 1
            || SSL_CTX_set_num_tickets(context, 0) != 1)
            return make_error(errc::unsupported, "OpenSSL does not speak TLS 1.3 with {}: {}",
                              ciphers, tls_error_text());
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE
                                      | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                      | SSL_MODE_RELEASE_BUFFERS);
        // A dialler has no certificate to check, and takes none in place of the key.
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
        SSL_CTX_set_psk_use_session_callback(context, &shared_tls::show);
        SSL_CTX_set_psk_find_session_callback(context, &shared_tls::find);
        return {};
    }

    secure_stream_ptr open(stream_role role, stream_carrier carrier) const override {
        return make_tls_stream(shared_from_this(), context_.get(), role, carrier);
    }

    const std::vector<std::string>& names() const override { return names_; }

private:
    SSL_SESSION* session_of(SSL* stream, const shared_key& key) const {
        auto* session = SSL_SESSION_new();
        if (session && SSL_SESSION_set1_master_key(session, key.key.data(), key.key.size()) == 1
            && SSL_SESSION_set_cipher(session, SSL_CIPHER_find(stream, cipher_number)) == 1
            && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
            return session;
        SSL_SESSION_free(session);
        return nullptr;
    }

    static const shared_tls& of(SSL* stream) {
        return static_cast<const shared_tls&>(tls_end_of(stream).shared());
    }

    /// OpenSSL asks a dialler for what it shows.
    static int show(SSL* stream, const EVP_MD*, const unsigned char** name, std::size_t* name_bytes,
                    SSL_SESSION** session) {
        const auto& key = of(stream).keys_.front();
        *session = of(stream).session_of(stream, key);
        *name = reinterpret_cast<const unsigned char*>(key.name.data());
        *name_bytes = key.name.size();
        return *session ? 1 : 0;
    }

    /// OpenSSL asks an acceptor for the key behind what it is shown.
    static int find(SSL* stream, const unsigned char* name, std::size_t name_bytes,
                    SSL_SESSION** session) {
        const std::string_view shown{reinterpret_cast<const char*>(name), name_bytes};
        const auto& keys = of(stream).keys_;
        const auto found = std::find_if(keys.begin(), keys.end(),
                                        [shown](const shared_key& x) { return x.name == shown; });
        tls_end_of(stream).was_shown(shown, found != keys.end());
        *session = found == keys.end() ? nullptr : of(stream).session_of(stream, *found);
        return found == keys.end() || *session ? 1 : 0;
    }

    std::vector<shared_key> keys_;
    std::vector<std::string> names_;
    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{nullptr, &SSL_CTX_free};
};

} // namespace

caf::expected<std::shared_ptr<const tls>> tls::make(const std::vector<std::string>& secrets) {
    auto result = std::make_shared<shared_tls>();
    if (auto problem = result->make_context(secrets))
        return problem;
    return std::shared_ptr<const tls>{std::move(result)};
}

std::string tls::library() {
    return OpenSSL_version(OPENSSL_VERSION);
}

} // namespace kvferry
