// SPDX-License-Identifier: GPL-2.0
/* Metadata of a frame: what the host is to do with it, and what the host says of one. */
#include <asm/byteorder.h>
#include <linux/virtio_byteorder.h>
#include <linux/virtio_net.h>
#include "compat.h"
#include "net.h"

/* False: the host could not cut it. */
bool pvkit_net_describe(const struct sk_buff *skb, u64 *meta)
{
	const struct skb_shared_info *shared = skb_shinfo(skb);
	u8 segmentation = PVKIT_SEGMENTATION_NONE;

	*meta = 0;
	if (skb_is_gso(skb)) {
		if (skb->ip_summed != CHECKSUM_PARTIAL)
			return false;
		if (shared->gso_type & SKB_GSO_TCPV4)
			segmentation = PVKIT_SEGMENTATION_TCP4;
		else if (shared->gso_type & SKB_GSO_TCPV6)
			segmentation = PVKIT_SEGMENTATION_TCP6;
		else if (shared->gso_type & SKB_GSO_UDP_L4)
			segmentation = PVKIT_SEGMENTATION_UDP;
		else
			return false;
	}
	if (skb->ip_summed == CHECKSUM_PARTIAL)
		*meta = pvkit_frame_meta(PVKIT_FRAME_FLAGS_NEEDS_CHECKSUM,
					 skb_checksum_start_offset(skb), skb->csum_offset,
					 segmentation, segmentation ? shared->gso_size : 0);
	return true;
}

/* A frame that is not to be cut fits the link. */
static bool is_plain(const struct pvkit_net *net, const struct sk_buff *skb)
{
	return skb->len <= net->mtu + PVKIT_NET_HEADERS;
}

/* As virtio knows it: its checks of headers against metadata are the kernel's own, and kept up. */
static bool to_virtio(const struct pvkit_net *net, u64 meta, struct virtio_net_hdr *header)
{
	u64 needs;

	switch (pvkit_frame_meta_segmentation(meta)) {
	case PVKIT_SEGMENTATION_TCP4:
		header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		needs = PVKIT_NET_FEATURES_RX_TSO4;
		break;
	case PVKIT_SEGMENTATION_TCP6:
		header->gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
		needs = PVKIT_NET_FEATURES_RX_TSO6;
		break;
#ifdef PVKIT_RECEIVES_UDP
	case PVKIT_SEGMENTATION_UDP:
		header->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
		needs = PVKIT_NET_FEATURES_RX_USO;
		break;
#endif
	default:
		return false;
	}
	header->gso_size = __cpu_to_virtio16(true, pvkit_frame_meta_segment_size(meta));
	return pvkit_net_has(net, needs) &&
	       pvkit_frame_meta_segment_size(meta) >= PVKIT_NET_MIN_SEGMENT;
}

static bool partial(const struct pvkit_net *net, struct sk_buff *skb, u64 meta)
{
	u16 start = pvkit_frame_meta_checksum_start(meta);
	struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = __cpu_to_virtio16(true, start),
		.csum_offset = __cpu_to_virtio16(true, pvkit_frame_meta_checksum_offset(meta)),
	};

	if (start < ETH_HLEN)
		return false;
	if (pvkit_frame_meta_segmentation(meta) == PVKIT_SEGMENTATION_NONE) {
		if (pvkit_frame_meta_segment_size(meta) || !is_plain(net, skb))
			return false;
	} else if (!to_virtio(net, meta, &header)) {
		return false;
	}
	return !virtio_net_hdr_to_skb(skb, &header, true);
}

static bool hashed(const struct pvkit_net *net, struct sk_buff *skb, u64 hash)
{
	u8 kind = pvkit_frame_hash_kind(hash);

	if (!hash)
		return true;
	if (!pvkit_net_has(net, PVKIT_NET_FEATURES_RSS) || hash >> 40 ||
	    kind == PVKIT_HASH_KIND_NONE || kind > PVKIT_HASH_KIND_UDP6)
		return false;
	if (net->dev->features & NETIF_F_RXHASH)
		skb_set_hash(skb, pvkit_frame_hash_hash(hash),
			     kind == PVKIT_HASH_KIND_IPV4 || kind == PVKIT_HASH_KIND_IPV6 ?
			     PKT_HASH_TYPE_L3 : PKT_HASH_TYPE_L4);
	return true;
}

/*
 * Judges what the host says of a frame, and tells the stack. False: it cannot
 * be so. The header that is parsed is in the linear part: ours alone.
 */
bool pvkit_net_believe(const struct pvkit_net *net, struct sk_buff *skb, u64 meta, u64 hash)
{
	u8 flags = pvkit_frame_meta_flags(meta) & ~PVKIT_FRAME_FLAGS_MORE;

	if (skb->len < ETH_HLEN || !hashed(net, skb, hash))
		return false;
	if (flags && !pvkit_net_has(net, PVKIT_NET_FEATURES_RX_CHECKSUM))
		return false;
	if (flags == PVKIT_FRAME_FLAGS_NEEDS_CHECKSUM)
		return partial(net, skb, meta);
	if ((flags && flags != PVKIT_FRAME_FLAGS_CHECKSUM_VALID) || meta << 8)
		return false;
	if (flags && net->dev->features & NETIF_F_RXCSUM)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	return is_plain(net, skb);
}
