// SPDX-License-Identifier: Apache-2.0
// Records of TLS between the caller's buffers and a carrier.
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/secure/stream_marks.hpp"
#include "transport/secure/tls_proof.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <openssl/err.h>
#include <tuple>
#include <utility>

namespace kvferry {

namespace {

/// The payload of the longest record.
constexpr std::size_t record_bytes_max = 16384;

/// Of what the other side has sent: read at a time, before and after it has proven itself. A system
/// call for each record would cost as much as its encryption.
constexpr std::size_t ahead_of_stranger_bytes = std::size_t{4} << 10;
constexpr std::size_t ahead_bytes = std::size_t{128} << 10;

/// Records that wait to be sent together.
constexpr std::size_t leaving_bytes_max = std::size_t{256} << 10;

using ssl_ptr = std::unique_ptr<SSL, decltype(&SSL_free)>;
using bio_ptr = std::unique_ptr<BIO, decltype(&BIO_free)>;

/// What OpenSSL's callbacks know of a stream.
class tls_end {
public:
    explicit tls_end(std::shared_ptr<const tls_proof> shared) : shared_(std::move(shared)) {}

    static tls_end& of(SSL* stream) { return *static_cast<tls_end*>(SSL_get_app_data(stream)); }

    std::shared_ptr<const tls_proof> shared_;
    tls_findings findings_;
};

class tls_stream final : public secure_stream, tls_end {
public:
    tls_stream(std::shared_ptr<const tls_proof> shared, SSL_CTX* context, stream_role role,
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
        if (role == stream_role::dialler)
            SSL_set_connect_state(ssl_.get());
        else
            SSL_set_accept_state(ssl_.get());
        shared_->prepare(ssl_.get(), role);
    }

    void let_kernel_encrypt() override { asks_kernel_ = carrier_.is_socket(); }
    bool is_kernel_encrypting() const override { return in_kernel_; }

    caf::expected<stream_want> handshake() override {
        if (!ssl_)
            return make_error(errc::system_call_failed, "OpenSSL has no memory for a connection");
        if (proven_)
            return flush();
        if (std::exchange(asks_kernel_, false))
            open_kernel_socket();
        ERR_clear_error(); // somebody else's on this thread
        const auto done = SSL_do_handshake(ssl_.get());
        if (done != 1) {
            auto wants = want_after(done);
            const auto sent = flush(); // what ends the handshake is said, too
            if (!wants || !sent)
                return wants ? sent : wants;
            return *sent == stream_want::nothing ? *wants : *sent;
        }
        if (!shared_->is_proven(ssl_.get()))
            return make_error(errc::foreign_peer, "{}", shared_->why_unproven());
        proven_ = true;
        in_kernel_ = kernel_socket_ && encrypts(kernel_socket_.get());
        return flush();
    }

    caf::expected<stream_moved> read(std::span<const iovec> into) override {
        if (!ssl_)
            return read_bare(into);
        stream_moved result;
        for (const auto& each : into)
            for (std::size_t done = 0; done < each.iov_len;) {
                std::size_t got = 0;
                ERR_clear_error();
                const auto code = SSL_read_ex(ssl_.get(), static_cast<char*>(each.iov_base) + done,
                                              each.iov_len - done, &got);
                if (code == 1) {
                    heard_ = true;
                    done += got;
                    result.bytes += got;
                    continue;
                }
                if (SSL_get_error(ssl_.get(), code) == SSL_ERROR_ZERO_RETURN) {
                    result.ended = result.bytes == 0; // comes again with the next call
                    return result;
                }
                auto wants = want_after(code);
                if (!wants && result.bytes == 0)
                    return std::move(wants.error());
                result.wants = stream_want::read; // an error comes again, too
                return result;
            }
        return result;
    }

    caf::expected<stream_moved> write(std::span<const iovec> from) override {
        if (!ssl_ || in_kernel_)
            return write_bare(from);
        stream_moved result;
        std::size_t at = 0;
        std::size_t offset = 0;
        for (;;) {
            while (at < from.size() && offset == from[at].iov_len) {
                ++at;
                offset = 0;
            }
            if (at == from.size() || leaving() >= leaving_bytes_max) {
                auto wants = flush();
                if (!wants)
                    return std::move(wants.error());
                result.wants = *wants;
                if (at == from.size() || result.wants != stream_want::nothing)
                    return result;
            }
            const auto* bytes = static_cast<const char*>(from[at].iov_base) + offset;
            auto count = std::min(from[at].iov_len - offset, record_bytes_max);
            if (count < record_bytes_max && at + 1 < from.size())
                bytes = gather(from, at, offset, count);
            else
                offset += count;
            std::size_t sent = 0;
            ERR_clear_error();
            if (SSL_write_ex(ssl_.get(), bytes, count, &sent) != 1 || sent != count)
                return make_error(errc::link_lost, "the secured connection failed: {}",
                                  last_tls_failure().text);
            result.bytes += count;
        }
    }

    caf::expected<stream_want> flush() override {
        while (leaving() > 0) {
            const iovec rest{out_.data() + out_sent_, leaving()};
            const auto sent = carrier_.write({&rest, 1});
            if (sent >= 0)
                out_sent_ += static_cast<std::size_t>(sent);
            else if (errno == EAGAIN)
                return stream_want::write;
            else if (errno != EINTR)
                return not_sent(errno);
        }
        out_.clear();
        out_sent_ = 0;
        return stream_want::nothing;
    }

    void finish() override {
        if (!ssl_ || !proven_ || in_kernel_)
            return;
        ERR_clear_error();
        SSL_shutdown(ssl_.get());
        ERR_clear_error();
        std::ignore = flush();
    }

    void drop_protection() override {
        if (in_kernel_) // which goes on encrypting
            std::abort();
        ssl_.reset();
    }

    bool is_bare() const override {
        return !ssl_ && carrier_.is_socket() && in_begin_ == in_end_ && leaving() == 0;
    }

private:
    std::size_t leaving() const { return out_.size() - out_sent_; }

    /// Who was refused hears so: what the other side said before it closed is still there.
    caf::error not_sent(int why) {
        if (ssl_ && proven_ && role_ == stream_role::dialler && !heard_) {
            char ignored;
            std::size_t got = 0;
            ERR_clear_error();
            if (const auto code = SSL_peek_ex(ssl_.get(), &ignored, 1, &got); code != 1)
                if (auto wants = want_after(code);
                    !wants && code_of(wants.error()) == errc::foreign_peer)
                    return std::move(wants.error());
        }
        return system_error(errc::link_lost, "send", why);
    }

    /// Copies small pieces into one record, from there on; `count` becomes its length.
    const char* gather(std::span<const iovec> from, std::size_t& at, std::size_t& offset,
                       std::size_t& count) {
        gathered_.resize(record_bytes_max);
        count = 0;
        while (at < from.size() && count < record_bytes_max) {
            const auto bytes = std::min(from[at].iov_len - offset, record_bytes_max - count);
            if (bytes > 0)
                std::memcpy(gathered_.data() + count,
                            static_cast<const char*>(from[at].iov_base) + offset, bytes);
            count += bytes;
            offset += bytes;
            if (offset < from[at].iov_len)
                break;
            ++at;
            offset = 0;
        }
        return gathered_.data();
    }

    /// First what was read ahead.
    caf::expected<stream_moved> read_bare(std::span<const iovec> into) {
        if (in_begin_ < in_end_) {
            stream_moved result;
            for (const auto& each : into) {
                const auto bytes = std::min(each.iov_len, in_end_ - in_begin_);
                if (bytes > 0)
                    std::memcpy(each.iov_base, in_.data() + in_begin_, bytes);
                in_begin_ += bytes;
                result.bytes += bytes;
            }
            return result;
        }
        for (;;) {
            const auto got = carrier_.read(into);
            if (got > 0)
                return stream_moved{static_cast<std::size_t>(got), stream_want::nothing};
            if (got == 0)
                return stream_moved{0, stream_want::nothing, true};
            if (errno == EAGAIN)
                return stream_moved{0, stream_want::read};
            if (errno != EINTR)
                return system_error(errc::link_lost, "recv");
        }
    }

    caf::expected<stream_moved> write_bare(std::span<const iovec> from) {
        if (auto wants = flush(); !wants)
            return std::move(wants.error());
        else if (*wants != stream_want::nothing)
            return stream_moved{0, *wants};
        for (;;) {
            const auto sent = carrier_.write(from);
            if (sent >= 0)
                return stream_moved{static_cast<std::size_t>(sent), stream_want::nothing};
            if (errno == EAGAIN)
                return stream_moved{0, stream_want::write};
            if (errno != EINTR)
                return not_sent(errno);
        }
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
        // A dialler is done before the acceptor has seen its certificate: that may still come back.
        const auto failure = last_tls_failure();
        if (!proven_ || (failure.told && role_ == stream_role::dialler && !heard_))
            return not_proven(failure);
        return make_error(errc::link_lost, "the secured connection failed: {}", failure.text);
    }

    caf::error plain_peer() {
        if (role_ == stream_role::acceptor) {
            const iovec answer{const_cast<unsigned char*>(marks::secret_wanted.data()),
                               marks::secret_wanted.size()};
            carrier_.write({&answer, 1});
        }
        return make_error(errc::foreign_peer, "{}", shared_->why_plain());
    }

    caf::error not_proven(const tls_failure& failure) {
        return make_error(errc::foreign_peer, "{}", shared_->why_not(role_, findings_, failure));
    }

    // -- the carrier as OpenSSL sees it ----------------------------------------------------------

    static tls_stream& of_bio(BIO* bio) { return *static_cast<tls_stream*>(BIO_get_data(bio)); }

    static int read_bytes(BIO* bio, char* into, std::size_t room, std::size_t* got) {
        BIO_clear_retry_flags(bio);
        *got = 0;
        auto& self = of_bio(bio);
        if (self.in_begin_ == self.in_end_ && !self.read_ahead()) {
            if (self.broke_ == EAGAIN) {
                self.broke_ = 0;
                BIO_set_retry_read(bio);
            }
            return 0;
        }
        *got = std::min(room, self.in_end_ - self.in_begin_);
        std::memcpy(into, self.in_.data() + self.in_begin_, *got);
        self.in_begin_ += *got;
        return 1;
    }

    /// False: nothing has come that OpenSSL could read.
    bool read_ahead() {
        const auto room = proven_ && carrier_.is_socket() ? ahead_bytes : ahead_of_stranger_bytes;
        if (in_.size() < room)
            in_.resize(room);
        in_begin_ = in_end_ = 0;
        const iovec place{in_.data(), in_.size()};
        ssize_t got;
        do
            got = carrier_.read({&place, 1});
        while (got < 0 && errno == EINTR);
        if (got < 0) {
            broke_ = errno;
            return false;
        }
        at_end_ = got == 0;
        for (ssize_t i = 0; i < got && seen_ < 2; ++i)
            first_[seen_++] = static_cast<unsigned char>(in_[static_cast<std::size_t>(i)]);
        // One byte is enough to know that it is none of TLS.
        plain_ =
            plain_ || (seen_ > 0 && !marks::begins_a_record(first_[0], seen_ > 1 ? first_[1] : 3));
        if (at_end_ || plain_)
            return false;
        in_end_ = static_cast<std::size_t>(got);
        return true;
    }

    static int write_bytes(BIO* bio, const char* from, std::size_t bytes, std::size_t* sent) {
        BIO_clear_retry_flags(bio);
        *sent = bytes;
        if (of_bio(bio).in_kernel_) // an alert: the connection ends anyway
            return 1;
        auto& out = of_bio(bio).out_;
        out.insert(out.end(), from, from + bytes);
        return 1;
    }

    /// What concerns the kernel is for OpenSSL's own BIO of the socket, as far as it is about
    /// writing: then `number` is not 0. Of keys for reading the kernel hears nothing.
    static long control(BIO* bio, int command, long number, void* what) {
        if (command == BIO_CTRL_FLUSH)
            return 1;
        auto& self = of_bio(bio);
        const auto is_question = command == BIO_CTRL_GET_KTLS_SEND;
        if (!self.kernel_socket_ || (!is_question && number == 0))
            return 0;
        // Before the kernel begins, everything that is encrypted already has left.
        if (!is_question)
            if (auto wants = self.flush(); !wants || *wants != stream_want::nothing)
                return 0;
        return BIO_ctrl(self.kernel_socket_.get(), command, number, what);
    }

    void open_kernel_socket() {
#ifndef OPENSSL_NO_KTLS
        SSL_set_options(ssl_.get(), SSL_OP_ENABLE_KTLS);
        kernel_socket_.reset(BIO_new_socket(carrier_.socket(), BIO_NOCLOSE));
#endif
    }

    static bool encrypts(BIO* socket) {
        return BIO_ctrl(socket, BIO_CTRL_GET_KTLS_SEND, 0, nullptr) > 0;
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
    /// Null: without protection.
    ssl_ptr ssl_;
    bool proven_ = false;
    bool asks_kernel_ = false;
    bool in_kernel_ = false;
    /// It writes nothing: it knows how the kernel is told a key.
    bio_ptr kernel_socket_{nullptr, &BIO_free};
    /// The other side has said something behind the handshake.
    bool heard_ = false;
    /// Read from the carrier, and not by OpenSSL yet.
    std::vector<char> in_;
    std::size_t in_begin_ = 0;
    std::size_t in_end_ = 0;
    /// Written by OpenSSL, and not to the carrier yet.
    std::vector<char> out_;
    std::size_t out_sent_ = 0;
    std::vector<char> gathered_;
    unsigned char first_[2] = {};
    std::size_t seen_ = 0;
    bool plain_ = false;
    bool at_end_ = false;
    /// errno of the carrier.
    int broke_ = 0;
};

} // namespace

tls_findings& tls_findings_of(SSL* stream) {
    return tls_end::of(stream).findings_;
}

const tls_proof& tls_proof_of(SSL* stream) {
    return *tls_end::of(stream).shared_;
}

secure_stream_ptr make_tls_stream(std::shared_ptr<const tls_proof> shared, SSL_CTX* context,
                                  stream_role role, stream_carrier carrier) {
    return std::make_unique<tls_stream>(std::move(shared), context, role, carrier);
}

} // namespace kvferry
