// SPDX-License-Identifier: Apache-2.0
// One socket in use: its stream, what is read from it, what waits to be written to it.
#pragma once

#include "transport/tcp/byte_stream.hpp"
#include "transport/tcp/socket_poll.hpp"
#include "transport/tcp/tcp_movers.hpp"
#include "transport/tcp/tcp_outbox.hpp"
#include "transport/tcp/tcp_reader.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

class tcp_channel final : public socket_poll::watcher, private tcp_movers::owner {
public:
    /// Told from within ready(): it keeps the channel until the wire lets go of it.
    class owner {
    public:
        /// A connect has succeeded.
        virtual void connected(tcp_channel&) {}
        /// The memory behind these tags is free.
        virtual void posted(tcp_channel&, const std::vector<std::uint64_t>& /*tags*/) {}
        /// Once: the peer has closed it (no error), or why it is of no use any more.
        virtual void over(tcp_channel&, caf::error why) = 0;
        /// It was stopped while it wrote on another thread, which is done: nothing of the outbox is
        /// read any more.
        virtual void done_writing(tcp_channel&) {}

    protected:
        ~owner() = default;
    };

    /// `out` is the owner's and outlives the channel, or what it still does apart. `movers`: who
    /// makes the long calls of bulk; may be null.
    static caf::expected<std::unique_ptr<tcp_channel>>
    make(socket_poll&, std::unique_ptr<byte_stream>, bool connecting, tcp_reader, tcp_outbox& out,
         owner&, std::optional<flow> bulk = {}, tcp_movers* movers = nullptr);
    tcp_channel(const tcp_channel&) = delete;
    ~tcp_channel() = default;

    /// Written before everything in `out`.
    tcp_outbox& prologue() { return prologue_; }
    /// What comes after the prologue is not protected.
    void drop_protection_after_prologue() { drops_protection_ = true; }
    /// Writes out of this outbox from now on.
    void use(tcp_outbox& out) {
        out_ = &out;
        write_soon();
    }
    /// Its peer may send messages of the fabric from now on.
    void hear(wire_user* user, std::uint64_t payload_bytes_max) {
        in_.hear(user, payload_bytes_max);
    }
    /// Something waits in its outbox.
    void write_soon() { registration_.soon(); }
    bool is_connected() const { return now_ == phase::open; }
    int fd() const { return stream_->fd(); }
    /// Tells its peer that nothing follows, unless the stream is another thread's now.
    void finish() {
        if (!is_apart())
            stream_->finish();
    }
    /// Never calls its owner again, but for done_writing().
    void stop();
    /// A mover has its stream and memory: it must live on.
    bool is_apart() const { return apart_ != apart::no; }
    bool is_writing_apart() const { return apart_ == apart::writes; }

    void ready(std::uint32_t events) override;

private:
    enum class phase : std::uint8_t { connecting, securing, open, over };
    enum class apart : std::uint8_t { no, reads, writes };

    tcp_channel(std::unique_ptr<byte_stream> stream, bool connecting, tcp_reader in,
                tcp_outbox& out, owner& owned_by)
        : stream_(std::move(stream)), in_(std::move(in)), out_(&out), owner_(owned_by),
          now_(connecting ? phase::connecting : phase::open) {}

    void handed_back(bytes_moved) override;
    void secure();
    void read();
    void after_read(tcp_reader::progress);
    void write();
    bool flush();
    bool write(tcp_outbox&);
    void after_write(tcp_outbox& from, tcp_outbox::progress,
                     const std::vector<std::uint64_t>& tags);
    bool may_hand_over() const;
    bool has_to_write() const;
    void hand_over(apart, std::span<const iovec> parts);
    void end(caf::error why);

    std::unique_ptr<byte_stream> stream_;
    tcp_reader in_;
    tcp_outbox prologue_;
    tcp_outbox* out_;
    owner& owner_;
    phase now_;
    tcp_movers* movers_ = nullptr;
    apart apart_ = apart::no;
    /// In its last turn nobody else had bulk, or no thread was free.
    bool is_alone_ = false;
    bool drops_protection_ = false;
    /// The socket takes no more for now.
    bool blocked_ = false;
    /// The last read has left something.
    bool more_ = false;
    /// Ends before the stream's descriptor.
    socket_poll::registration registration_;
};

} // namespace kvferry
