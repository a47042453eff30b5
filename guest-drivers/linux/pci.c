// SPDX-License-Identifier: GPL-2.0
/*
 * The platform function: how a stock kernel in a virtual machine finds the
 * host. Everything of an earlier driver, or of an earlier kernel, ends with a
 * write to its reset register, so that is what stands first.
 */
#include <linux/cc_platform.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include "pvkit_host.h"

/* From the reset to the host's offers. The bus's port, if there is one already, is kept. */
static int bring_up(struct pvkit_host *host)
{
	struct pvkit_port *port;
	int ret;

	pvkit_reset(host);
	ret = pvkit_negotiate(host);
	if (ret)
		return ret;
	if (host->ports[0]) {
		ret = pvkit_ports_again(host);
	} else {
		port = pvkit_port_get(host, "bus", NULL);
		ret = PTR_ERR_OR_ZERO(port);
	}
	return ret ?: pvkit_bus_up(host);
}

static void take_down(struct pvkit_host *host)
{
	WRITE_ONCE(host->dead, true);
	pvkit_bus_down(host);
	pvkit_reset(host);
}

static int map(struct pvkit_host *host)
{
	struct pci_dev *pdev = host->pdev;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pcim_iomap_regions(pdev, BIT(PVKIT_PCI_BAR), "pvkit");
	if (ret)
		return ret;
	if (pci_resource_len(pdev, PVKIT_PCI_BAR) < PVKIT_PCI_BAR_BYTES) {
		dev_err(&pdev->dev, "BAR %u is too small\n", PVKIT_PCI_BAR);
		return -ENODEV;
	}
	host->bar = pcim_iomap_table(pdev)[PVKIT_PCI_BAR];
	pci_set_master(pdev);
	return 0;
}

static struct pvkit_host *new_host(struct pci_dev *pdev)
{
	struct pvkit_host *host;

	host = devm_kzalloc(&pdev->dev, sizeof(*host), GFP_KERNEL);
	if (!host)
		return NULL;
	host->info = devm_kzalloc(&pdev->dev, sizeof(*host->info), GFP_KERNEL);
	/* Ordered: what happens to devices happens one at a time. */
	host->wq = alloc_ordered_workqueue("pvkit", WQ_MEM_RECLAIM | WQ_FREEZABLE);
	if (!host->info || !host->wq) {
		if (host->wq)
			destroy_workqueue(host->wq);
		return NULL;
	}
	host->pdev = pdev;
	INIT_WORK(&host->messages_work, pvkit_messages);
	INIT_WORK(&host->restart_work, pvkit_restart_work);
	INIT_LIST_HEAD(&host->devices);
	mutex_init(&host->devices_lock);
	mutex_init(&host->ports_lock);
	pci_set_drvdata(pdev, host);
	return host;
}

/* The other half of pvkit_probe(), from any point of it. */
static void end(struct pvkit_host *host)
{
	if (host->bar)
		take_down(host);
	destroy_workqueue(host->wq);
	if (host->ports[0])
		pvkit_port_put(host, host->ports[0]);
	if (host->vectors)
		pvkit_ports_end(host);
	pvkit_bus_end(host);
	pvkit_memory_end(host);
	pci_clear_master(host->pdev);
}

static int pvkit_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct pvkit_host *host;
	int ret;

	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT)) {
		dev_err(&pdev->dev,
			"the memory of this guest is encrypted, which pvkit does not support yet\n");
		return -EOPNOTSUPP;
	}
	host = new_host(pdev);
	if (!host)
		return -ENOMEM;
	ret = pvkit_bus_init(host);
	if (!ret)
		ret = map(host);
	if (!ret)
		ret = pvkit_read_info(host);
	if (!ret)
		ret = pvkit_ports_init(host);
	if (!ret)
		ret = pvkit_memory_init(host);
	if (!ret)
		ret = bring_up(host);
	if (ret) {
		end(host);
		return ret;
	}
	dev_info(&pdev->dev, "host with ABI %u.%u, %s\n", host->info->version >> 16,
		 host->info->version & 0xffff,
		 host->window ? "buffers in its window" : "all memory is shared");
	/* Offers that came are dealt with first: a root disk is there when it is looked for. */
	flush_work(&host->messages_work);
	return 0;
}

static void pvkit_remove(struct pci_dev *pdev)
{
	struct pvkit_host *host = pci_get_drvdata(pdev);

	cancel_work_sync(&host->messages_work);
	cancel_work_sync(&host->restart_work);
	pvkit_devices_end(host);
	end(host);
}

/* The next kernel finds a host that uses none of its memory. */
static void pvkit_shutdown(struct pci_dev *pdev)
{
	take_down(pci_get_drvdata(pdev));
}

static int pvkit_suspend(struct device *dev)
{
	struct pvkit_host *host = dev_get_drvdata(dev);

	pvkit_bus_down(host);
	pvkit_reset(host);
	pvkit_devices_disconnect(host);
	return 0;
}

static int pvkit_resume(struct device *dev)
{
	struct pvkit_host *host = dev_get_drvdata(dev);

	/* It may be another host that wakes us. */
	return pvkit_read_info(host) ?: bring_up(host);
}

static DEFINE_SIMPLE_DEV_PM_OPS(pvkit_pm, pvkit_suspend, pvkit_resume);

static const struct pci_device_id pvkit_ids[] = {
	{ PCI_DEVICE(PVKIT_PCI_VENDOR_ID, PVKIT_PCI_DEVICE_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, pvkit_ids);

static struct pci_driver pvkit_pci_driver = {
	.name = "pvkit",
	.id_table = pvkit_ids,
	.probe = pvkit_probe,
	.remove = pvkit_remove,
	.shutdown = pvkit_shutdown,
	.driver.pm = pm_sleep_ptr(&pvkit_pm),
};

static int __init pvkit_init(void)
{
	int ret;

	ret = bus_register(&pvkit_bus_type);
	if (ret)
		return ret;
	ret = pci_register_driver(&pvkit_pci_driver);
	if (ret)
		bus_unregister(&pvkit_bus_type);
	return ret;
}
module_init(pvkit_init);

static void __exit pvkit_exit(void)
{
	pci_unregister_driver(&pvkit_pci_driver);
	bus_unregister(&pvkit_bus_type);
}
module_exit(pvkit_exit);

MODULE_DESCRIPTION("The pvkit bus, found by its PCI function");
MODULE_LICENSE("GPL");
