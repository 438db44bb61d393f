// SPDX-License-Identifier: Apache-2.0
// Records of TLS between the caller's buffers and a carrier.
#include "transport/secure/tls_stream.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/secure/stream_marks.hpp"

#include <algorithm>
#include <cstring>
#include <openssl/err.h>

namespace kvferry {

namespace {

/// The payload of the longest record.
constexpr std::size_t record_bytes_max = 16384;

using ssl_ptr = std::unique_ptr<SSL, decltype(&SSL_free)>;

std::string joined(const std::vector<std::string>& names) {
    std::string result;
    for (const auto& each : names)
        result += (result.empty() ? "" : ", ") + each;
    return result;
}

class tls_stream final : public secure_stream, public tls_end {
public:
    tls_stream(std::shared_ptr<const tls> shared, SSL_CTX* context, stream_role role,
               stream_carrier carrier)
        : tls_end(std::move(shared)), role_(role), carrier_(carrier),
          ssl_(SSL_new(context), &SSL_free) {
        auto* bio = method() ? BIO_new(method()) : nullptr;
        if (!ssl_ || !bio) {
            BIO_free(bio);
            ssl_.reset();
            return;
        }
        BIO_set_data(bio, this);
        BIO_set_init(bio, 1);
        SSL_set_bio(ssl_.get(), bio, bio);
        SSL_set_app_data(ssl_.get(), static_cast<tls_end*>(this));
        if (role == stream_role::dialler) {
            SSL_set_connect_state(ssl_.get());
        } else {
            SSL_set_accept_state(ssl_.get());
            SSL_set_verify(ssl_.get(), SSL_VERIFY_NONE, nullptr);
        }
    }

    caf::expected<stream_want> handshake() override {
        if (!ssl_)
            return make_error(errc::system_call_failed, "OpenSSL has no memory for a connection");
        if (proven_)
            return stream_want::nothing;
        begin_call();
        const auto done = SSL_do_handshake(ssl_.get());
        if (done != 1)
            return want_after(done);
        if (!SSL_session_reused(ssl_.get())) // a handshake without the key
            return make_error(errc::foreign_peer,
                              "the other side shows no deployment secret: start it with the same "
                              "KVFERRY_SECRET_FILE (worker_options.security)");
        proven_ = true;
        return stream_want::nothing;
    }

    caf::expected<stream_moved> read(std::span<const iovec> into) override {
        if (bare_)
            return bare_->read(into);
        stream_moved result;
        for (const auto& each : into)
            for (std::size_t done = 0; done < each.iov_len;) {
                std::size_t got = 0;
                begin_call();
                const auto code = SSL_read_ex(ssl_.get(), static_cast<char*>(each.iov_base) + done,
                                              each.iov_len - done, &got);
                if (code == 1) {
                    done += got;
                    result.bytes += got;
                    continue;
                }
                if (SSL_get_error(ssl_.get(), code) == SSL_ERROR_ZERO_RETURN) {
                    result.ended = true;
                    return result;
                }
                auto wants = want_after(code);
                if (!wants && result.bytes == 0)
                    return std::move(wants.error());
                // An error comes again with the next call.
                result.wants = wants ? *wants : stream_want::read;
                return result;
            }
        return result;
    }

    caf::expected<stream_moved> write(std::span<const iovec> from) override {
        if (bare_)
            return bare_->write(from);
        stream_moved result;
        auto kept = flush();
        if (!kept)
            return std::move(kept.error());
        result.wants = *kept;
        std::size_t at = 0;
        std::size_t offset = 0;
        while (result.wants == stream_want::nothing) {
            while (at < from.size() && offset == from[at].iov_len) {
                ++at;
                offset = 0;
            }
            if (at == from.size())
                break;
            const auto* bytes = static_cast<const char*>(from[at].iov_base) + offset;
            auto count = std::min(from[at].iov_len - offset, record_bytes_max);
            if (count < record_bytes_max && at + 1 < from.size()) {
                count = gather(from, at, offset);
                bytes = kept_.data();
            } else {
                offset += count;
            }
            auto wants = send_record(bytes, count);
            if (!wants)
                return std::move(wants.error());
            result.bytes += count;
            result.wants = *wants;
        }
        return result;
    }

    caf::expected<stream_want> flush() override {
        if (bare_ || kept_bytes_ == 0)
            return stream_want::nothing;
        return send_record(kept_.data(), kept_bytes_);
    }

    void finish() override {
        if (bare_ || !proven_)
            return;
        begin_call();
        SSL_shutdown(ssl_.get());
        ERR_clear_error();
    }

    /// Nothing of what follows the handshake has been read: OpenSSL reads record by record.
    void drop_protection() override {
        ssl_.reset();
        bare_ = std::make_unique<bare_carrier>(carrier_);
    }

    bool is_bare() const override { return bare_ && carrier_.is_socket(); }

private:
    /// The connection after drop_protection(): both ends know each other, so nothing is looked at.
    class bare_carrier {
    public:
        explicit bare_carrier(stream_carrier& carrier) : carrier_(carrier) {}

        caf::expected<stream_moved> read(std::span<const iovec> into) {
            const auto got = again([&] { return carrier_.read(into); });
            if (got > 0)
                return stream_moved{static_cast<std::size_t>(got), stream_want::nothing};
            if (got == 0)
                return stream_moved{0, stream_want::nothing, true};
            if (errno == EAGAIN)
                return stream_moved{0, stream_want::read};
            return system_error(errc::link_lost, "recv");
        }
        caf::expected<stream_moved> write(std::span<const iovec> from) {
            const auto sent = again([&] { return carrier_.write(from); });
            if (sent >= 0)
                return stream_moved{static_cast<std::size_t>(sent), stream_want::nothing};
            if (errno == EAGAIN)
                return stream_moved{0, stream_want::write};
            return system_error(errc::link_lost, "send");
        }

    private:
        template <class Call>
        static ssize_t again(Call call) {
            for (;;)
                if (const auto result = call(); result >= 0 || errno != EINTR)
                    return result;
        }
        stream_carrier& carrier_;
    };

    /// Copies small pieces into one record, from there on.
    std::size_t gather(std::span<const iovec> from, std::size_t& at, std::size_t& offset) {
        kept_.resize(record_bytes_max);
        std::size_t count = 0;
        while (at < from.size() && count < record_bytes_max) {
            const auto bytes = std::min(from[at].iov_len - offset, record_bytes_max - count);
            if (bytes > 0)
                std::memcpy(kept_.data() + count,
                            static_cast<const char*>(from[at].iov_base) + offset, bytes);
            count += bytes;
            offset += bytes;
            if (offset < from[at].iov_len)
                break;
            ++at;
            offset = 0;
        }
        return count;
    }

    /// Takes all bytes. When they cannot leave now they are kept, because OpenSSL wants to be given
    /// the same ones again.
    caf::expected<stream_want> send_record(const char* bytes, std::size_t count) {
        begin_call();
        std::size_t sent = 0;
        const auto code = SSL_write_ex(ssl_.get(), bytes, count, &sent);
        if (code == 1) {
            kept_bytes_ = 0;
            return stream_want::nothing;
        }
        auto wants = want_after(code);
        if (wants && bytes != kept_.data()) {
            kept_.resize(record_bytes_max);
            std::memcpy(kept_.data(), bytes, count);
        }
        kept_bytes_ = wants ? count : 0;
        return wants;
    }

    void begin_call() {
        ERR_clear_error(); // somebody else's on this thread
    }

    /// What a call that did not succeed waits for, or why it never will.
    caf::expected<stream_want> want_after(int code) {
        switch (SSL_get_error(ssl_.get(), code)) {
        case SSL_ERROR_WANT_READ:
            return stream_want::read;
        case SSL_ERROR_WANT_WRITE:
            return stream_want::write;
        default:
            break;
        }
        if (plain_)
            return plain_peer();
        if (broke_ != 0)
            return system_error(errc::link_lost, proven_ ? "a secured connection" : "the handshake",
                                broke_);
        if (at_end_)
            return make_error(errc::link_lost, proven_
                                                   ? "the other side closed the connection"
                                                   : "the other side closed the connection during "
                                                     "the handshake");
        return proven_ ? make_error(errc::link_lost, "the secured connection failed: {}",
                                    tls_error_text())
                       : not_proven();
    }

    caf::error plain_peer() {
        if (role_ == stream_role::acceptor) {
            const iovec answer{const_cast<unsigned char*>(marks::secret_wanted.data()),
                               marks::secret_wanted.size()};
            carrier_.write({&answer, 1});
        }
        return make_error(errc::foreign_peer,
                          "the other side has no deployment secret (it does not speak TLS): start "
                          "it with the same KVFERRY_SECRET_FILE (worker_options.security)");
    }

    caf::error not_proven() {
        const auto ours = joined(shared_->names());
        if (role_ == stream_role::dialler)
            return make_error(errc::foreign_peer,
                              "the other side does not accept the deployment secret {}: give both "
                              "sides the same one, or add it to those that the other side accepts "
                              "({})",
                              shared_->names().front(), tls_error_text());
        if (shown_.empty())
            return make_error(errc::foreign_peer,
                              "the other side speaks TLS and shows no deployment secret ({})",
                              tls_error_text());
        if (!known_)
            return make_error(errc::foreign_peer,
                              "the other side shows another deployment secret ({}; accepted here: "
                              "{}): give both sides the same one",
                              printable(shown_), ours);
        return make_error(errc::foreign_peer,
                          "the other side names the deployment secret {} and does not know it ({})",
                          printable(shown_), tls_error_text());
    }

    static std::string printable(std::string text) {
        std::replace_if(
            text.begin(), text.end(), [](char x) { return x < ' ' || x > '~'; }, '?');
        return text;
    }

    // -- the carrier as OpenSSL sees it ----------------------------------------------------------

    static tls_stream& of(BIO* bio) { return *static_cast<tls_stream*>(BIO_get_data(bio)); }

    static int read_bytes(BIO* bio, char* into, std::size_t room, std::size_t* got) {
        return of(bio).read_some(bio, into, room, got);
    }
    int read_some(BIO* bio, char* into, std::size_t room, std::size_t* got) {
        BIO_clear_retry_flags(bio);
        *got = 0;
        const iovec place{into, room};
        ssize_t result;
        do
            result = carrier_.read({&place, 1});
        while (result < 0 && errno == EINTR);
        if (result < 0) {
            if (errno == EAGAIN)
                BIO_set_retry_read(bio);
            else
                broke_ = errno;
            return 0;
        }
        at_end_ = result == 0;
        for (ssize_t i = 0; i < result && seen_ < 2; ++i)
            first_[seen_++] = static_cast<unsigned char>(into[i]);
        // One byte is enough to know that it is none of TLS.
        plain_ =
            plain_ || (seen_ > 0 && !marks::begins_a_record(first_[0], seen_ > 1 ? first_[1] : 3));
        if (at_end_ || plain_)
            return 0;
        *got = static_cast<std::size_t>(result);
        return 1;
    }

    static int write_bytes(BIO* bio, const char* from, std::size_t bytes, std::size_t* sent) {
        return of(bio).write_some(bio, from, bytes, sent);
    }
    int write_some(BIO* bio, const char* from, std::size_t bytes, std::size_t* sent) {
        BIO_clear_retry_flags(bio);
        *sent = 0;
        const iovec place{const_cast<char*>(from), bytes};
        ssize_t result;
        do
            result = carrier_.write({&place, 1});
        while (result < 0 && errno == EINTR);
        if (result < 0) {
            if (errno == EAGAIN)
                BIO_set_retry_write(bio);
            else
                broke_ = errno;
            return 0;
        }
        *sent = static_cast<std::size_t>(result);
        return 1;
    }

    static long control(BIO*, int command, long, void*) {
        return command == BIO_CTRL_FLUSH ? 1 : 0;
    }

    /// Not OpenSSL's own for sockets: that one raises SIGPIPE in the host.
    static BIO_METHOD* method() {
        static BIO_METHOD* const made = [] {
            auto* result = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kvferry");
            if (result) {
                BIO_meth_set_read_ex(result, &tls_stream::read_bytes);
                BIO_meth_set_write_ex(result, &tls_stream::write_bytes);
                BIO_meth_set_ctrl(result, &tls_stream::control);
            }
            return result;
        }();
        return made;
    }

    stream_role role_;
    stream_carrier carrier_;
    ssl_ptr ssl_;
    std::unique_ptr<bare_carrier> bare_;
    bool proven_ = false;
    /// A record that could not leave: these bytes, once more.
    std::vector<char> kept_;
    std::size_t kept_bytes_ = 0;
    unsigned char first_[2] = {};
    std::size_t seen_ = 0;
    bool plain_ = false;
    bool at_end_ = false;
    /// errno of the carrier.
    int broke_ = 0;
};

} // namespace

tls_end& tls_end_of(SSL* stream) {
    return *static_cast<tls_end*>(SSL_get_app_data(stream));
}

secure_stream_ptr make_tls_stream(std::shared_ptr<const tls> shared, SSL_CTX* context,
                                  stream_role role, stream_carrier carrier) {
    return std::make_unique<tls_stream>(std::move(shared), context, role, carrier);
}

std::string tls_error_text() {
    const auto number = ERR_get_error();
    ERR_clear_error();
    const char* reason = number ? ERR_reason_error_string(number) : nullptr;
    return reason ? reason : "no reason given";
}

} // namespace kvferry
