// SPDX-License-Identifier: Apache-2.0
// Every message by its name, for interfaces and type ids: definitions are in wire/ and local/.
#pragma once

#include <cstdint>

namespace kvferry {

enum class errc : std::uint8_t;

// Between ranks (wire/protocol.hpp).
struct register_rank_info;
struct request_instance_info;
struct instance_info;
struct request_data;
struct kv_agent_result;
struct aux_agent_result;
struct cancel_session;
struct gone;
struct transfer_started;
struct packed_instance;
struct instance_unchanged;
struct refused;
struct rank_registered;
struct termination;
struct link_health;
struct offer_regions;
struct session_wanted;

// Inside a process (local/).
struct info_frame;
struct fetch_instance_info;
struct register_with_instance;
struct publish_info_server;
struct info_server_published;
struct call_info_server;
struct add_instance;
struct open_endpoint;
struct endpoint_opened;
struct endpoint_failed;
struct send_frame;
struct frame_arrived;
struct start_put;
struct start_copy;
struct copy_step;
struct cancel_transfer;
struct transfer_done;
struct close_endpoint;
struct register_region;
struct region_registered;
struct unregister_region;
struct describe_fabric;
struct fabric_description;
struct drain_fabric;
struct allow_writes;
struct forbid_writes;
struct forbid_all_writes;
struct peer_memory_mapped;
struct peer_regions_offered;
struct stop_io;
struct export_device_region;
struct device_region_exported;
struct pin_host_region;
struct map_peer_regions;
struct peer_regions_mapped;
struct unmap_region;
struct await_event;
struct device_lost;
struct share_region;
struct host_link_dial;
struct host_link_expect;
struct host_link_up;
struct host_link_down;
struct host_link_close;
struct process_gone;
struct await_peer;
struct connect_peer;
struct peer_connected;
struct send_message;
struct start_link;
struct close_link;
struct peer_ready;
struct peer_lost;
struct open_tx;
struct open_rx;
struct tx_opened;
struct rx_opened;
struct send_slice;
struct send_aux;
struct receive_slice;
struct bind_receiver;
struct unbind_receiver;
struct bind_writers;
struct cancel_request;
struct drain_sessions;
struct deadline_tick;
struct session_ended;
struct session_retired;
struct session_transferring;
struct renew_requests;
struct owner_ended;
struct extend_session;
struct session_extended;
struct keep_session;
struct relay_over;
struct relay_overdue;
struct query_status;
struct query_slots;
struct slots_on_loan;
struct list_sessions;
struct session_list;
struct session_status;
struct piece_finished;
struct session_ready;
struct layers_arrived;
struct session_finished;
struct session_released;
struct host_send;
struct host_send_aux;
struct host_receive;
struct run_callback;
struct register_pools;
struct pools_registered;
struct query_rank_info;
struct rank_info_reply;
struct query_statistics;
struct worker_statistics;
struct adopt_io;
struct adopt_devices;
struct find_instance;
struct instance_found;
struct list_instance;
struct describe_instance;
struct drain_worker;
struct stop_worker;
struct worker_stopped;

} // namespace kvferry
