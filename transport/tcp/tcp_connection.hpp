// SPDX-License-Identifier: Apache-2.0
// A link's way to one peer: a socket for frames, and others for the bytes of puts, so that no frame
// waits behind bulk. All of them only send; what comes back are answers of the wire itself, and on
// the frames' socket what the peer has to say before its own connection is welcomed.
#pragma once

#include "transport/tcp/tcp_context.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

class tcp_connection final : public wire_connection, private tcp_channel::owner {
public:
    tcp_connection(tcp_context&, tcp_address to, incarnation peer, endpoint_id);
    ~tcp_connection() override;

    /// Starts to dial; failures come as events.
    void dial();

    void send(fabric_message, byte_view head, byte_buffer payload, std::uint64_t tag) override;
    bool send_from(fabric_message, byte_view head, byte_view payload, std::uint64_t tag) override;
    bool send_gathered(fabric_message, byte_view head, std::span<const byte_view> payload,
                       std::uint64_t tag) override;
    void flush(std::uint64_t tag) override;
    void close(bool force) override;
    bool says_sums() const override { return true; }
    std::size_t waiting() const override { return frames_.messages(); }
    wire_room room() override;
    bool keeps_classes_apart() const override { return true; }
    wire_connection& way_of(priority x) override {
        return x == priority::high  ? static_cast<wire_connection&>(high_)
               : x == priority::low ? static_cast<wire_connection&>(low_)
                                    : *this;
    }

    // -- for the guest that lends it a way back -------------------------------------------------
    caf::error on_flushed(byte_view payload, bool on_way_back);
    /// What it was given may be lost.
    void way_back_ended();
    /// It has ended, and the peer has read all that it was given.
    void way_back_settled();

private:
    /// A socket on its way to one of the peer's hosts. The first that is welcomed becomes the lane
    /// of frames.
    struct candidate {
        std::string host;
        std::unique_ptr<tcp_channel> channel;
    };
    struct bulk_lane {
        tcp_outbox out;
        std::unique_ptr<tcp_channel> channel;
    };
    struct flush_wait {
        std::uint64_t tag = 0;
        std::size_t answers = 0;
        /// All that went back on the peer's connection has arrived.
        bool settles_way_back = false;
        /// One of the answers is to come on the way back.
        bool asks_way_back = false;
    };
    caf::error on_flush(std::uint64_t dialled, byte_view payload);
    flush_wait& new_flush(std::uint64_t& number);
    static void ask_flushed(std::uint64_t number, flush_wait&, tcp_way);
    /// The bytes of another class than the normal one have a socket of their own, from the first
    /// on: no class waits behind what others have in the system's buffers.
    class class_way final : public wire_connection {
    public:
        class_way(tcp_connection& of, priority urgency) : of_(of), urgency_(urgency) {}

        void send(fabric_message what, byte_view head, byte_buffer payload,
                  std::uint64_t tag) override {
            of_.send_over(of_.way_over(lane), what, head, std::move(payload), tag);
        }
        bool send_from(fabric_message what, byte_view head, byte_view payload,
                       std::uint64_t tag) override {
            return send_gathered(what, head, std::span{&payload, 1}, tag);
        }
        bool send_gathered(fabric_message what, byte_view head, std::span<const byte_view> payload,
                           std::uint64_t tag) override {
            return of_.gather_over(of_.way_over(lane), what, head, payload, tag);
        }
        wire_room room() override { return of_.room_over(lane, urgency_); }
        void flush(std::uint64_t tag) override { of_.flush(tag); }
        void close(bool force) override { of_.close(force); }

        std::optional<bulk_lane> lane;

    private:
        tcp_connection& of_;
        priority urgency_;
    };

    void connected(tcp_channel&) override;
    void posted(tcp_channel&, const std::vector<std::uint64_t>& tags) override { post(tags); }
    void over(tcp_channel&, caf::error why) override;
    void done_writing(tcp_channel&) override;
    caf::error on_record(tcp_lane, std::uint64_t dialled, tcp_record, byte_view payload);
    void welcomed(std::uint64_t dialled);

    void dial_next_host();
    void dial_bulk();
    caf::expected<std::unique_ptr<tcp_channel>> open(const std::string& host, tcp_lane,
                                                     std::uint64_t number, tcp_outbox&,
                                                     priority = priority::normal);
    caf::error dial_lane(bulk_lane&, priority);
    void refuse(std::uint64_t dialled, const caf::error& why);
    tcp_way way_for(fabric_message);
    tcp_way way_of_frames();
    tcp_way way_back();
    void ask_way_back(std::uint64_t number, flush_wait&);
    void flush_answered(std::uint64_t number);
    tcp_way way_over(std::optional<bulk_lane>&);
    wire_room room_over(std::optional<bulk_lane>&, priority);
    void send_over(tcp_way, fabric_message, byte_view head, byte_buffer payload, std::uint64_t tag);
    bool gather_over(tcp_way, fabric_message, byte_view head, std::span<const byte_view> payload,
                     std::uint64_t tag);
    void lose(caf::error why);
    void end(bool force);
    void closed();
    void post(const std::vector<std::uint64_t>& tags);

    tcp_context& with_;
    tcp_address to_;
    incarnation peer_;
    endpoint_id id_;

    /// Until one is welcomed; by the number of the dial.
    std::map<std::uint64_t, candidate> candidates_;
    std::uint64_t last_dial_ = 0;
    std::size_t next_host_ = 0;
    /// Whose channel writes frames ahead of its welcome; 0: none.
    std::uint64_t favourite_ = 0;
    /// What the others write: nothing.
    tcp_outbox nothing_;
    std::string obstacles_;
    /// At none of the hosts so far anybody listens.
    bool nobody_listens_ = true;

    tcp_outbox frames_;
    std::unique_ptr<tcp_channel> frame_channel_;
    std::uint64_t frame_dial_ = 0;
    /// A way back was used, and what went there may still be lost with it.
    bool way_back_matters_ = false;
    std::string host_;
    std::deque<bulk_lane> bulk_;
    std::size_t last_bulk_ = 0;
    class_way high_{*this, priority::high};
    class_way low_{*this, priority::low};
    /// By their numbers.
    std::map<std::uint64_t, flush_wait> flushes_;
    std::uint64_t last_flush_ = 0;
    bool ended_ = false;
    /// Sockets that have ended while another thread writes their bytes.
    std::size_t writing_ = 0;
};

} // namespace kvferry
