//! Clusters at run time: endpoints, load balancing, resolution and connection pools.
