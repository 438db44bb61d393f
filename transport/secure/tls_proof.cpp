// SPDX-License-Identifier: Apache-2.0
// How TLS is spoken, whatever is shown.
#include "transport/secure/tls_proof.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/unique_fd.hpp"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

namespace kvferry {

namespace {

/// A secret's key is used with the cipher's hash, so there is one cipher.
constexpr const char* ciphers = "TLS_AES_128_GCM_SHA256";

} // namespace

tls_failure last_tls_failure() {
    tls_failure result;
    if (const auto number = ERR_get_error()) {
        result.reason = ERR_GET_REASON(number);
        result.told = ERR_GET_LIB(number) == ERR_LIB_SSL && result.reason >= SSL_AD_REASON_OFFSET;
        if (const char* text = ERR_reason_error_string(number))
            result.text = text;
    }
    ERR_clear_error();
    return result;
}

caf::expected<tls_context_ptr> make_tls_context() {
    tls_context_ptr made{SSL_CTX_new(TLS_method()), &SSL_CTX_free};
    auto* context = made.get();
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1
        || SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1
        || SSL_CTX_set_ciphersuites(context, ciphers) != 1
        || SSL_CTX_set_num_tickets(context, 0) != 1)
        return make_error(errc::unsupported, "OpenSSL does not speak TLS 1.3 with {}: {}", ciphers,
                          last_tls_failure().text);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                  | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    return made;
}

std::string printable(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char x) { return x < ' ' || x > '~'; }, '?');
    return text;
}

bool tls::kernel_can_encrypt() {
#ifdef OPENSSL_NO_KTLS
    return false;
#else
    // It refuses a socket that is not connected for that reason, after it has found its module.
    const unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    return socket && ::setsockopt(socket.get(), IPPROTO_TCP, TCP_ULP, "tls", 3) != 0
           && errno == ENOTCONN;
#endif
}

std::string tls::library() {
    return OpenSSL_version(OPENSSL_VERSION);
}

} // namespace kvferry
